"""Packages that add names to safesight from outside."""
