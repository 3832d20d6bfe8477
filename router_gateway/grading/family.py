"""Who made a model, read off its name: judges prefer their own kin (Panickssery et al. 2024, arXiv 2404.13076)."""

from __future__ import annotations

import re
from functools import lru_cache

from router_gateway.core.types import Endpoint

_MAKERS = {
    "openai": ("openai", "gpt", "chatgpt", "davinci", "codex"),
    "anthropic": ("anthropic", "claude"),
    "google": ("google", "gemini", "gemma", "palm"),
    "meta": ("meta", "llama", "codellama"),
    "mistral": ("mistral", "mistralai", "mixtral", "ministral", "codestral", "pixtral", "magistral", "devstral"),
    "alibaba": ("qwen", "qwq", "alibaba"),
    "deepseek": ("deepseek",),
    "microsoft": ("phi", "wizardlm"),
    "cohere": ("cohere", "command", "aya"),
    "xai": ("xai", "grok"),
    "amazon": ("nova", "titan"),
    "moonshot": ("kimi", "moonshot"),
    "zhipu": ("glm", "chatglm"),
    "nvidia": ("nemotron",),
}
_MAKER_OF = {word: maker for maker, words in _MAKERS.items() for word in words}
_OPENAI_O = re.compile(r"o\d")


@lru_cache(maxsize=4096)
def family(model: str) -> str:
    """The maker by the first word of the name that tells, else the name's first word ("maker/foo-7b": foo)."""
    name = model.rpartition("/")[2].lower()
    words = re.findall(r"[a-z]+", name)
    if _OPENAI_O.match(name):
        return "openai"
    told = next((_MAKER_OF[word] for word in words if word in _MAKER_OF), None)
    return told or (words[0] if words else name)


def akin(one: Endpoint, other: Endpoint) -> bool:
    """Whether two endpoints serve one model, or models of one maker.

    What hosts them does not count: a provider such as a cloud serves the models of many makers.
    """
    return one.name == other.name or one.model == other.model or family(one.model) == family(other.model)
