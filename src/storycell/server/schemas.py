"""What clients send and get, as pydantic models: the validation, and the OpenAPI document made from it.

Requests are strict: a number in quotes is not a number, and an unknown parameter is an error, not ignored. Parameters
of OpenAI's that a character model has no use for are accepted with their neutral value.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MOST_CHOICES = 128
MOST_LIKELIEST = 20
MOST_STOPS = 16
MOST_MESSAGES = 10_000


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 5.0 is as whole as 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _no_ids(value: Any) -> Any:
    if isinstance(value, list) and not all(isinstance(text, str) for text in value):
        raise ValueError("give a text or a list of texts; ids are not accepted")
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
Name = Annotated[str, Field(max_length=200)]
Unknown = Literal["error", "replace", "skip"]
Stop = Annotated[str, Field(min_length=1, max_length=1_000)]
Regex = Annotated[str, Field(max_length=2_000)]
Grammar = Annotated[str, Field(max_length=20_000)]
Choices = Annotated[list[Annotated[str, Field(max_length=500)]], Field(min_length=1, max_length=500)]
Labels = Annotated[dict[Name, Name], Field(max_length=16)]
LABELS = "what a model with labels is asked for; of one that is left out the most frequent value is taken"
Temperature = Annotated[float, Field(ge=0, le=100)]


class Request(BaseModel):
    """Base of all requests."""

    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())


class StreamOptions(Request):
    """What a streamed answer tells beside the text."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class Hold(Request):
    """A unit of a gate or state that is kept at a value while the model generates."""

    name: Name = Field(description="a value of the cell: i f g o c h of an LSTM")
    layer: Whole = Field(ge=0, description="counted from 0")
    unit: Whole = Field(ge=0, description="counted from 0")
    value: float = Field(ge=-100, le=100)


class Steer(Request):
    """How much of the server's direction to add to what its layer shows, at every step."""

    dose: float = Field(ge=-100, le=100, description="1 is the whole difference that the direction is named after")
    random: bool = Field(False, description="a random direction of the same length instead")


class StructuredOutputs(Request):
    """What each text must be like, as vLLM names it: one of these."""

    regex: Regex | None = None
    choice: Choices | None = None
    grammar: Grammar | None = None


class ResponseFormat(Request):
    """OpenAI's name for what an answer must be like; a regex can say more."""

    type: Literal["text"]


class DrawnRequest(Request):
    """What completions and chats have in common: how each text is drawn. A token is a character."""

    model: Name | None = Field(None, description="the one that is served; may be left out")
    max_tokens: Whole | None = Field(None, ge=0, description="most characters to generate (500)")
    temperature: Temperature | None = Field(None, description="above 1 bolder, below 1 safer, 0 greedy (0.8)")
    top_p: float | None = Field(None, gt=0, le=1, description="only the likeliest that together have this probability")
    top_k: Whole | None = Field(None, ge=1, description="only the k likeliest")
    min_p: float | None = Field(
        None, ge=0, le=1, description="only those at least this share as likely as the likeliest"
    )
    n: Whole | None = Field(None, ge=1, le=MOST_CHOICES, description="texts for each prompt; text k has seed + k")
    seed: Whole | None = Field(
        None, ge=-(2**63), lt=2**64, description="the same seed generates the same text, whoever else is served"
    )
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = Field(
        None, description="the text ends before any of these"
    )
    stream: bool | None = Field(None, description="server-sent events, as the text comes")
    stream_options: StreamOptions | None = None
    regex: Regex | None = Field(
        None, description="a regular expression of Python's that each text, without its prompt, matches as a whole"
    )
    guided_regex: Regex | None = Field(None, description="another name of regex")
    guided_choice: Choices | None = Field(None, description="each text is one of these")
    guided_grammar: Grammar | None = Field(None, description="another name of grammar")
    grammar: Grammar | None = Field(None, description="llama.cpp's GBNF, without rules that lead back to themselves")
    structured_outputs: StructuredOutputs | None = None
    response_format: ResponseFormat | None = None
    labels: Labels = Field(default_factory=dict, description=LABELS)
    user: Name | None = Field(None, description="accepted and not used")
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = Field(None, description="not supported: null or 0")
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = Field(None, description="not supported: null or 0")
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = Field(
        None, description="not supported: null or empty"
    )


class CompletionRequest(DrawnRequest):
    """What to generate after a text, or after each of several."""

    prompt: Annotated[str | list[str], BeforeValidator(_no_ids)] = Field(description="what the text begins with")
    logprobs: Whole | None = Field(
        None,
        ge=0,
        le=MOST_LIKELIEST,
        description="report ln p of each character under the filters it was drawn with, and of so many likeliest",
    )
    score: bool = Field(False, description="report the surprise of each character to the model itself, in nats")
    echo: bool | None = Field(None, description="begin the answer with the prompt")
    unknown: Unknown = Field("error", description="what becomes of characters that the model does not know")
    state: Name | None = Field(None, description="go on from this saved state; the prompt follows what it has read")
    save_state: bool = Field(False, description="save the state after each text; its name is in the choice")
    hold: list[Hold] = Field(default_factory=list, max_length=16, description="units to hold while generating")
    steer: Steer | None = Field(None, description="where `storycell serve --steer` has a direction")
    suffix: Literal[""] | None = Field(None, description="not supported: null")
    best_of: Whole | None = Field(None, ge=1, le=MOST_CHOICES, description="not supported: null, or the same as n")


class TextPart(Request):
    """A part of a message's content: only text is read."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A part of the text that stands before the answer. What else a client sends with it is not read."""

    model_config = ConfigDict(strict=True, extra="ignore", protected_namespaces=())

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] = Field(description="text; of several parts, each begins a line")
    name: Name | None = Field(None, description="who speaks, where the server was told speakers")


class ChatRequest(DrawnRequest):
    """Messages, which become one text, and how to go on with it."""

    messages: list[Message] = Field(min_length=1, max_length=MOST_MESSAGES)
    max_completion_tokens: Whole | None = Field(None, ge=0, description="the newer name of max_tokens")
    unknown: Unknown = Field("skip", description="what becomes of characters that the model does not know")
    logprobs: Literal[False] | None = Field(None, description="not supported here; /v1/completions has them")
    top_logprobs: Annotated[Whole, Field(ge=0, le=0)] | None = Field(None, description="not supported: null or 0")
    tools: Annotated[list[Any], Field(max_length=0)] | None = Field(None, description="not supported: null or empty")
    tool_choice: Literal["none", "auto"] | None = Field(None, description="accepted and not used")
    parallel_tool_calls: bool | None = Field(None, description="accepted and not used")
    store: bool | None = Field(None, description="accepted and not used")
    metadata: dict[Name, Name] | None = Field(None, description="accepted and not used")
    reasoning_effort: Name | None = Field(None, description="accepted and not used")
    service_tier: Name | None = Field(None, description="accepted and not used")


class StateRequest(Request):
    """A text to read, whose state is to be saved."""

    prompt: str
    state: Name | None = Field(None, description="read on from this saved state")
    unknown: Unknown = "error"


class NextRequest(Request):
    """A text, and how much to tell about what may follow it."""

    prompt: str
    top: Whole = Field(12, ge=1, le=200, description="how many of the likeliest characters")
    temperature: Temperature = 1.0
    score: bool = Field(False, description="also the surprise of every character of the prompt, in nats")
    state: Name | None = Field(None, description="the prompt follows what this saved state has read")
    labels: Labels = Field(default_factory=dict, description=LABELS)
    steer: Steer | None = Field(None, description="where `storycell serve --steer` has a direction")
    unknown: Unknown = "error"


class TraceRequest(Request):
    """A text, and which value of which layer to show while the model reads it."""

    prompt: str
    layer: Whole = Field(0, ge=0, description="counted from 0")
    name: Name = Field("c", description="a value of the cell: i f g o c h of an LSTM")
    units: list[Annotated[Whole, Field(ge=0)]] = Field(min_length=1, max_length=16, description="counted from 0")
    unknown: Unknown = "error"


class StepRequest(Request):
    """A text, and the unit whose step at its last character to show."""

    prompt: str
    layer: Whole = Field(0, ge=0, description="counted from 0")
    unit: Whole = Field(0, ge=0, description="counted from 0")
    name: Name = Field("c", description="a value of the cell, to give of the whole layer")
    unknown: Unknown = "error"


class Logprobs(BaseModel):
    """Log-probabilities of a text's characters, in OpenAI's arrangement; null for an echoed text's very first."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class Choice(BaseModel):
    """One text."""

    index: int
    text: str
    finish_reason: Literal["stop", "length"] | None
    logprobs: Logprobs | None = None
    nats: list[float] | None = Field(None, description="the surprise of each character of the text, if asked for")
    state: str | None = Field(None, description="the name of the saved state, if it was asked for")


class Usage(BaseModel):
    """Characters read and generated."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """The answer, or a part of it."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None


class ChatMessage(BaseModel):
    """What the model answers."""

    role: Literal["assistant"]
    content: str


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: ChatMessage
    finish_reason: Literal["stop", "length"] | None
    logprobs: None = None


class ChatCompletion(BaseModel):
    """The answers, and what they cost."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class ModelCard(BaseModel):
    """The model that is served; beyond OpenAI's four fields, what its network is."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    cell: str
    layers: int
    hidden: int
    values: list[str] = Field(description="the values of a cell by name, as the model reads a character")
    holds: bool = Field(description="whether the cell lets its values be held")
    parameters: int
    prompt: str = Field(description="what the model's own texts begin with; may be empty")
    labels: dict[str, list[str]] = Field(description="the labels that the model knows, each with its values")
    has_tunes: bool = Field(description="whether it generates tunes in ABC")
    vocabulary: Literal["characters", "bytes", "pieces"] = Field(description="what a token is: one of these")
    max_prompt: int
    max_traced: int
    steers: str | None = Field(description="what the direction that `steer` adds is about; null where there is none")
    steps: bool = Field(description="whether `/v1/step` shows steps of this model's cell")


class ModelList(BaseModel):
    """All models that are served: one."""

    object: Literal["list"]
    data: list[ModelCard]


class State(BaseModel):
    """A saved state."""

    id: str
    object: Literal["state"]
    chars: int = Field(description="characters read and generated before it")
    created: int
    expires_at: int = Field(description="Unix seconds; using the state puts it off")


class DeletedState(BaseModel):
    """A state that is no more."""

    id: str
    object: Literal["state.deleted"]
    deleted: bool


class Chance(BaseModel):
    """A character that may follow; a null text is the end of the story."""

    text: str | None
    probability: float


class Next(BaseModel):
    """What may follow a text."""

    object: Literal["next"]
    prompt: str = Field(description="the text as the model read it")
    next: list[Chance]
    nats: list[float] | None = Field(None, description="the surprise of each character of the prompt")


class Trace(BaseModel):
    """Values as the model reads a text: a row for each unit asked for, a value for each character."""

    object: Literal["trace"]
    prompt: str = Field(description="the text as the model read it")
    values: list[list[float]]
    lively: list[int] = Field(description="the units of this value that vary most over the text")


class Sum(BaseModel):
    """What a gate squashes: the bias, what the input adds, what the hidden state adds (to a GRU's n: times r)."""

    name: str
    bias: float
    x: float
    h: float
    value: float = Field(description="of the gate: the sum, squashed")


class Step(BaseModel):
    """The step in which the last character of a text is read."""

    object: Literal["step"]
    prompt: str = Field(description="the text as the model read it")
    read: str | None = Field(description="its last character; null: the boundary before the text")
    x: list[float] | None = Field(description="what the layer is fed; null: a row of its weights, by the character")
    h: list[float] = Field(description="what the layer showed before")
    sums: list[Sum]
    before: dict[str, float] = Field(description="the unit's states before, by name")
    after: dict[str, float] = Field(description="every value of the unit, by name")
    row: list[float] = Field(description="the value that was asked for, of all units of the layer")


class Health(BaseModel):
    """The server is there."""

    status: Literal["ok"]
    model: str
    streams: int = Field(description="texts being generated now")


class ErrorDetail(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(BaseModel):
    """An error."""

    error: ErrorDetail
