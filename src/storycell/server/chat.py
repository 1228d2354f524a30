"""`POST /v1/chat/completions`: a chat as a plain text with which the model goes on (`generation/transcript.py`), for
clients that know nothing else.
"""

from collections.abc import Iterator
from typing import Any

from storycell.generation.transcript import Message, transcript
from storycell.server.completions import Answer, GrowingChoice, Said, answer, to_json
from storycell.server.errors import ApiError
from storycell.server.schemas import ChatRequest, CompletionRequest, DrawnRequest
from storycell.server.schemas import Message as SentMessage
from storycell.server.service import Service


class ChatAnswer(Answer):
    """An answer in the shape of a chat's."""

    ids, whole_name, part_name = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._begun: set[int] = set()  # choices whose role was said

    def choice_parts(self, index: int, choice: GrowingChoice) -> list[bytes | bytearray]:
        """As `Answer.choice_parts`."""
        begin = b'{"index":%d,"message":{"role":"assistant","content":"' % index
        return [begin, choice.text, b'"},"logprobs":null,"finish_reason":', to_json(choice.finish), b"}"]

    def choices_of(self, part: Said) -> Iterator[dict[str, Any]]:
        """As `Answer.choices_of`: the role comes with the first words, and the finish after the last."""
        begun = part.index in self._begun
        self._begun.add(part.index)
        role = {} if begun else {"role": "assistant"}
        if part.text or not begun:
            delta = role | {"content": part.text}
            yield {"index": part.index, "delta": delta, "logprobs": None, "finish_reason": None}
        if part.finish:
            yield {"index": part.index, "delta": {}, "logprobs": None, "finish_reason": part.finish}


async def answer_chat(service: Service, asked: ChatRequest) -> Answer:
    """Check a chat against this model and these limits; nothing is computed yet."""
    text, stops = transcript(map(_read, asked.messages), service.settings.speakers)
    given = {name: getattr(asked, name) for name in DrawnRequest.model_fields}
    limits = {name for name in ("max_tokens", "max_completion_tokens") if getattr(asked, name) is not None}
    if len(limits) == 2 and asked.max_tokens != asked.max_completion_tokens:
        message = "max_tokens and max_completion_tokens are one thing by two names; give one of them"
        raise ApiError(400, message, param="max_tokens")
    given["max_tokens"] = asked.max_tokens if asked.max_completion_tokens is None else asked.max_completion_tokens
    try:
        made = await answer(
            service, CompletionRequest.model_construct(**given, prompt=text, unknown=asked.unknown), ChatAnswer
        )
    except ApiError as error:
        if error.param == "prompt":
            error.param = "messages"
        raise
    made.stops = [*made.stops, *stops]
    return made


def _read(message: SentMessage) -> Message:
    content = message.content
    words = content if isinstance(content, str) else "\n".join(part.text for part in content)
    return Message(message.role, words, message.name)
