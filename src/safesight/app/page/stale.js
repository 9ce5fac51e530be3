() => document.getElementById("ss-answers").classList.add("ss-stale")
