"""The attacks that come with the package; those that ask several times are at the end."""

from __future__ import annotations

from safesight.builtin.entry import Entry

__all__ = ["ATTACKS"]

ATTACKS: dict[str, Entry] = {
    "picture": Entry(
        "safesight.attacks.picture:Picture",
        "Moves the object of a request from the text into a picture.",
    ),
    "typography": Entry(
        "safesight.attacks.typography:Typography",
        "Moves the object of a request into a picture that shows its name in letters.",
    ),
    "figstep": Entry(
        "safesight.attacks.figstep:FigStep",
        "Draws the request as the title of an empty list, and asks to fill it in.",
    ),
    "figstep_pro": Entry(
        "safesight.attacks.figstep_pro:FigStepPro",
        "Cuts the title of such a list over three pictures, none of which shows the request.",
    ),
    "query_relevant": Entry(
        "safesight.attacks.query_relevant:QueryRelevant",
        "Puts the object's name in a strip below its picture, and points at both.",
    ),
    "mml_mirror": Entry(
        "safesight.attacks.mml:MMLMirror",
        "Draws the request as a title in a mirrored picture, and says how to read it.",
    ),
    "mml_rotate": Entry(
        "safesight.attacks.mml:MMLRotate",
        "Draws the request as a title upside down, and says how to read it.",
    ),
    "mml_base64": Entry(
        "safesight.attacks.mml:MMLBase64",
        "Draws the request as a title in Base64, and says how to read it.",
    ),
    "mml_word_replacement": Entry(
        "safesight.attacks.mml:MMLWordReplacement",
        "Draws the request as a title with foods for its telling words, and the way back.",
    ),
    "distraction": Entry(
        "safesight.attacks.distraction:Distraction",
        "Draws the request in three parts among nine distracting pictures in a grid.",
    ),
    "prefill": Entry("safesight.attacks.prefill:Prefill", 'Makes the answer begin with "Sure,".'),
    "ignore_tools": Entry(
        "safesight.attacks.ignore_tools:IgnoreTools",
        "Tells the model to use no tool, and to ignore what one returns.",
    ),
    "injected_result": Entry(
        "safesight.attacks.injected_result:InjectedResult",
        "Begins with a made-up tool result that calls the picture harmless.",
    ),
    "one_word": Entry(
        "safesight.attacks.one_word:OneWord",
        'Rewrites harmful requests to ask "What ...?" and benign ones to say "Share ...".',
    ),
    "one_word_strict": Entry(
        "safesight.attacks.one_word:OneWordStrict", "Replaces the first word and nothing else."
    ),
    "one_word_mood": Entry(
        "safesight.attacks.one_word:OneWordMood",
        "Turns instructions into questions, or back, without the cue word: a control.",
    ),
    "one_word_paraphrase": Entry(
        "safesight.attacks.one_word:OneWordParaphrase",
        "Paraphrases the request as often, without the cue word: a control.",
    ),
    "shuffle": Entry(
        "safesight.attacks.shuffle:Shuffle",
        "Shuffles the words and the patches of the picture, ten times.",
    ),
    "mixup": Entry(
        "safesight.attacks.mixup:Mixup",
        "Blends the picture with a harmless one, at nine coefficients.",
    ),
    "best_of_n": Entry(
        "safesight.attacks.best_of_n:BestOfN",
        "Tries 16 random changes of letters and of the picture.",
    ),
    "paraphrase": Entry("safesight.attacks.paraphrase:Paraphrase", "Tries 16 other phrasings."),
    "synonym": Entry(
        "safesight.attacks.synonym:Synonym",
        "Tries 16 variants with other names for the object, where it knows some.",
    ),
    "repeat": Entry(
        "safesight.attacks.repeat:Repeat",
        "Asks the plain request 16 times: the control for attacks with several tries.",
    ),
}
