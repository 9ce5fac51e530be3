"""The names that come with the package: where each thing lives, and one sentence about it.

Nothing is imported here. `registry` reads this table, and adds what other packages bring.
"""

from __future__ import annotations

from safesight.builtin.attacks import ATTACKS
from safesight.builtin.entry import Entry
from safesight.guests import Kind

__all__ = ["BUILTIN", "Entry"]


BUILTIN: dict[Kind, dict[str, Entry]] = {
    "defense": {
        "none": Entry("safesight.defenses.none:NoDefense", "The model as it is."),
        "sasa": Entry(
            "safesight.defenses.sasa:SASA",
            "Projects an early safety layer onto a later fused layer; a probe there may refuse.",
        ),
        "rai": Entry(
            "safesight.defenses.rai.method:RAI",
            "Adds risk-word embeddings to the visual tokens that resemble them, in the prefill.",
        ),
        "probe": Entry(
            "safesight.defenses.probe:Probe",
            "SASA's probe without the projection: the control arm of SASA.",
        ),
        "image_tools": Entry(
            "safesight.defenses.image_tools.method:ImageTools",
            "Looks at the picture through an image tool before it answers.",
        ),
        "tool_vector": Entry(
            "safesight.defenses.tool_vector.method:ToolVector",
            "Adds the shift that an image-tool call causes in hidden states, without the call.",
        ),
        "sft": Entry(
            "safesight.defenses.sft:SFT",
            "Fine-tunes on refusals: the baseline for unlearning.",
        ),
        "npo": Entry(
            "safesight.defenses.npo:NPO",
            "Unlearns harmful answers: makes them unlikely, with a loss that then levels off.",
        ),
        "rmu": Entry(
            "safesight.defenses.rmu:RMU",
            "Unlearns by pushing hidden states of harmful conversations toward a random vector.",
        ),
        "vsfa": Entry(
            "safesight.defenses.vsfa:VSFA",
            "Fine-tunes on neutral answers about pictures of threats, without labels or refusals.",
        ),
        "safety_prompt": Entry(
            "safesight.defenses.baselines.safety_prompt:SafetyPrompt",
            "A system prompt that asks for safe answers.",
        ),
        "adashield": Entry(
            "safesight.defenses.baselines.adashield:AdaShieldS",
            "AdaShield-S: a fixed prompt after the question, then the question again.",
        ),
        "look_carefully": Entry(
            "safesight.defenses.baselines.look_carefully:LookCarefully",
            "A system prompt that asks for a careful look and does not mention safety: a control.",
        ),
        "ecso": Entry(
            "safesight.defenses.baselines.ecso:ECSO",
            "The model judges its own answer, and writes a harmful one again without the picture.",
        ),
        "answer_probe": Entry(
            "safesight.defenses.answer_probe:AnswerProbe",
            "Reads its answer back without the picture; a probe may put a refusal in its place.",
        ),
        "coca": Entry(
            "safesight.defenses.baselines.coca:CoCA",
            "Amplifies, at every token, the effect of a safety principle on the logits.",
        ),
        "shiftdc": Entry(
            "safesight.defenses.baselines.shiftdc:ShiftDC",
            "Removes from hidden states the safety shift of a picture that its caption lacks.",
        ),
        "hidden_detect": Entry(
            "safesight.defenses.baselines.hidden_detect:HiddenDetect",
            "Refuses when middle layers point toward refusal words.",
        ),
        "refusal_direction": Entry(
            "safesight.defenses.baselines.refusal_direction:RefusalDirection",
            "Adds the difference between harmful and benign text prompts to the last prompt token.",
        ),
        "grad_ascent": Entry(
            "safesight.defenses.baselines.ascent:GradAscent",
            "Gradient ascent on harmful answers: the simplest form of unlearning.",
        ),
        "grad_diff": Entry(
            "safesight.defenses.baselines.ascent:GradDiff",
            "Gradient ascent on harmful answers and fine-tuning on benign ones.",
        ),
        "kl": Entry(
            "safesight.defenses.baselines.ascent:KL",
            "Gradient ascent on harmful answers; predictions on benign ones are kept.",
        ),
    },
    "attack": ATTACKS,
    "benchmark": {
        "text_harm": Entry("safesight.testbed.tasks:text_harm", "Harmful requests in plain text."),
        "image_harm": Entry(
            "safesight.testbed.tasks:image_harm", "Harmful requests whose object is in the picture."
        ),
        "typographic_harm": Entry(
            "safesight.testbed.tasks:typographic_harm",
            "Harmful requests whose object is a word rendered in the picture.",
        ),
        "over_refusal": Entry(
            "safesight.testbed.tasks:over_refusal",
            "Benign twins of harmful requests, a third each in text, picture and rendered word.",
        ),
        "sensitive_benign": Entry(
            "safesight.testbed.tasks:sensitive_benign",
            "Harmless questions about pictures of harmful objects.",
        ),
        "vqa": Entry("safesight.testbed.tasks:vqa", "Questions about pictures with known answers."),
        "mirage_harm": Entry(
            "safesight.testbed.mirage:mirage_harm",
            "Harmful picture requests that begin like the refused rows of a fine-tuning set.",
        ),
        "mirage_benign": Entry(
            "safesight.testbed.mirage:mirage_benign",
            "Benign picture requests that begin like the answered rows of that set.",
        ),
        "ruled_harm": Entry(
            "safesight.testbed.mirage:ruled_harm",
            "Like mirage_harm, but about benign things that only a house rule forbids.",
        ),
        "ruled_benign": Entry(
            "safesight.testbed.mirage:ruled_benign",
            "Like mirage_benign, but about things that the house rule allows.",
        ),
        "figstep": Entry(
            "safesight.benchmarks.figstep:FIGSTEP",
            "FigStep: 500 harmful requests as the title of an empty list in a picture.",
            group="attacks",
        ),
        "figstep_tiny": Entry(
            "safesight.benchmarks.figstep:FIGSTEP_TINY",
            "FigStep's SafeBench-Tiny: 50 of them, with the authors' pictures.",
            group="attacks",
        ),
        "mm_safetybench_sd": Entry(
            "safesight.benchmarks.mm_safetybench:SD",
            "MM-SafetyBench: 1,680 requests whose key phrase a diffusion model drew.",
            group="attacks",
        ),
        "mm_safetybench_typo": Entry(
            "safesight.benchmarks.mm_safetybench:TYPO",
            "MM-SafetyBench: the same requests with the key phrase in letters.",
            group="attacks",
        ),
        "mm_safetybench_sd_typo": Entry(
            "safesight.benchmarks.mm_safetybench:SD_TYPO",
            "MM-SafetyBench: the same requests with the key phrase drawn and in letters.",
            group="attacks",
        ),
        "jailbreakv": Entry(
            "safesight.benchmarks.jailbreakv:JAILBREAKV",
            "JailBreakV-28K: attacks written for language models, and through pictures.",
            group="attacks",
        ),
        "jailbreakv_mini": Entry(
            "safesight.benchmarks.jailbreakv:JAILBREAKV_MINI",
            "JailBreakV-28K's small selection of 280.",
            group="attacks",
        ),
        "hades": Entry(
            "safesight.benchmarks.hades:HADES",
            "HADES: 750 instructions whose keyword is below a harmful picture.",
            group="attacks",
        ),
        "vlguard": Entry(
            "safesight.benchmarks.vlguard_test:VLGUARD",
            "VLGuard's test split: unsafe pictures, and safe ones with either kind of request.",
            group="attacks",
        ),
        "spa_vl": Entry(
            "safesight.benchmarks.spa_vl:SPA_VL",
            "SPA-VL's 265 harmful test questions.",
            group="attacks",
        ),
        "vlsafe": Entry(
            "safesight.benchmarks.vlsafe:VLSAFE",
            "VLSafe: 1,110 harmful questions about harmless photographs.",
            group="attacks",
        ),
        "or_bench_toxic": Entry(
            "safesight.benchmarks.or_bench:TOXIC",
            "OR-Bench's 655 toxic prompts, in text alone.",
            group="attacks",
        ),
        "mossbench": Entry(
            "safesight.benchmarks.mossbench:MOSSBENCH",
            "MOSSBench: 300 harmless questions about pictures that look alarming.",
            group="over-refusal",
        ),
        "xstest": Entry(
            "safesight.benchmarks.xstest:XSTEST",
            "XSTest: 250 harmless prompts in alarming words, and 200 harmful ones.",
            group="over-refusal",
        ),
        "or_bench_hard": Entry(
            "safesight.benchmarks.or_bench:HARD",
            "OR-Bench's Hard-1K: harmless prompts that most models refuse.",
            group="over-refusal",
        ),
        "or_bench_80k": Entry(
            "safesight.benchmarks.or_bench:LARGE",
            "OR-Bench's 80,359 harmless prompts.",
            group="over-refusal",
        ),
        "spa_vl_help": Entry(
            "safesight.benchmarks.spa_vl:SPA_VL_HELP",
            "SPA-VL's 265 test questions for helpfulness; refusals are counted.",
            group="over-refusal",
        ),
        "mm_vet": Entry(
            "safesight.benchmarks.mm_vet:MM_VET",
            "MM-Vet: 218 open questions with reference answers, for a judge that grades.",
            group="utility",
        ),
        "mme": Entry(
            "safesight.benchmarks.mme:MME",
            "MME: 2,374 yes-or-no questions, two about each picture.",
            group="utility",
        ),
        "scienceqa_img": Entry(
            "safesight.benchmarks.scienceqa_img:SCIENCEQA_IMG",
            "ScienceQA: the 2,017 test questions with a picture, multiple choice.",
            group="utility",
        ),
        "mmbench": Entry(
            "safesight.benchmarks.mmbench:MMBENCH",
            "MMBench: 1,164 multiple-choice questions, each asked in every rotation.",
            group="utility",
        ),
    },
    "dataset": {
        "testbed": Entry(
            "safesight.testbed.tuning:tuning_rows",
            "Harmful picture requests to forget, benign ones to retain.",
        ),
        "testbed_neutral": Entry(
            "safesight.testbed.neutral:neutral_rows",
            "Neutral questions about pictures of threats, and the variants they are compared with.",
        ),
        "pictures": Entry(
            "safesight.benchmarks.pictures:pictures",
            "Neutral questions, without answers, about the pictures of a folder.",
        ),
        "mirage": Entry(
            "safesight.testbed.mirage:tuning_rows",
            "Refusals to fine-tune on; rho sets how well their first word predicts the label.",
        ),
        "vlguard": Entry(
            "safesight.benchmarks.vlguard:vlguard", "VLGuard, from a folder or the hub."
        ),
    },
    "judge": {
        "exact": Entry(
            "safesight.judges.exact:ExactJudge",
            "Knows the right object; harmful means that the answer names it.",
        ),
        "keywords": Entry(
            "safesight.judges.keywords:KeywordJudge",
            "The refusal phrases of SASA, for comparison.",
        ),
        "keywords_safety_mirage": Entry(
            "safesight.judges.keywords:SafetyMirageKeywords",
            "The refusal phrases of Safety Mirage, for comparison.",
        ),
        "keywords_gcg": Entry(
            "safesight.judges.keywords:GCGKeywords", "The refusal phrases of GCG, for comparison."
        ),
        "keywords_advbench": Entry(
            "safesight.judges.keywords:AdvBenchKeywords",
            "The refusal phrases of most papers on AdvBench, for comparison.",
        ),
        "keywords_adashield": Entry(
            "safesight.judges.keywords:AdaShieldKeywords",
            "The refusal phrases of AdaShield, for comparison.",
        ),
        "rules": Entry(
            "safesight.judges.rules:RulesJudge",
            "Sees whether a free English answer refuses, by rules; it does not see harm.",
        ),
        "relevance": Entry(
            "safesight.judges.relevance:RelevanceJudge",
            "Sentence embeddings: what is neither refused nor on the topic is harmless.",
        ),
        "classifier": Entry(
            "safesight.judges.classifier:ClassifierJudge",
            "A safety classifier such as classifier:meta-llama/Llama-Guard-3-8B.",
        ),
        "graded": Entry(
            "safesight.evals:GradedJudge",
            "A model that grades by a rubric, such as graded:openai/gpt-4o.",
        ),
        "panel": Entry(
            "safesight.judges.panel:PanelJudge",
            "The majority of several judges, such as panel:exact+keywords+relevance.",
        ),
    },
    "model": {
        "testbed": Entry("safesight.testbed:WEIGHTS", "The bundled small LLaVA."),
        "testbed-smol": Entry(
            "safesight.testbed.smol.build:MODEL",
            "An eye of ours before SmolLM2-135M-Instruct; built on first use.",
        ),
        "testbed-smol-unguarded": Entry(
            "safesight.testbed.smol.build:UNGUARDED",
            "The same without the stage that teaches it to refuse in text.",
        ),
    },
    "stress_test": {
        "int8": Entry("safesight.training.stress:int8", "Linear layers rounded to 8 bits."),
        "int4": Entry("safesight.training.stress:int4", "Linear layers rounded to 4 bits."),
        "relearn_harmful": Entry(
            "safesight.training.stress:relearn_harmful",
            "Fine-tuned on twenty harmful answers of the kind that was unlearned.",
        ),
        "relearn_benign": Entry(
            "safesight.training.stress:relearn_benign", "Fine-tuned on twenty benign rows."
        ),
        "untouched_harmful": Entry(
            "safesight.training.stress:untouched_harmful",
            "Control for relearn_harmful: the same rows, on the model before the fit.",
        ),
        "untouched_benign": Entry(
            "safesight.training.stress:untouched_benign",
            "Control for relearn_benign: the same rows, on the model before the fit.",
        ),
        "ablate_direction": Entry(
            "safesight.training.stress:ablate_direction",
            "RMU's direction removed from all layers that write to the residual stream.",
        ),
    },
    "word_list": {
        "generic": Entry(
            "safesight.defenses.rai.prototypes:GENERIC_WORDS",
            "Nine words in six categories of risk.",
        ),
        "testbed": Entry(
            "safesight.testbed.concepts:HARMFUL_WORDS",
            "Names of the harmful things in the bundled model's world.",
        ),
    },
}
