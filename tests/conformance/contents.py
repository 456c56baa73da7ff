"""The tools, resources and prompts of fixed content that the conformance suite asks for by name; used by fixture.py."""

import base64
import io
import json
import struct
import wave
import zlib

from mcp.server import MCPServer
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp_types import (
    AudioContent,
    Completion,
    CompletionArgument,
    CompletionContext,
    EmbeddedResource,
    ImageContent,
    PromptReference,
    ResourceTemplateReference,
    TextContent,
    TextResourceContents,
)


def a_picture() -> bytes:
    """A PNG of one grey pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\x00\x80")) + chunk(b"IEND", b"")
    )


def a_sound() -> bytes:
    """A WAV of one silent sample."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"\x00\x00")
    return buffer.getvalue()


PICTURE = base64.b64encode(a_picture()).decode()
SOUND = base64.b64encode(a_sound()).decode()


def embedded(uri: str, mime_type: str, text: str) -> EmbeddedResource:
    """A text resource inside a message."""
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=mime_type, text=text))


def picture() -> ImageContent:
    """The picture as content."""
    return ImageContent(type="image", data=PICTURE, mime_type="image/png")


def add_contents(server: MCPServer[None]) -> None:
    """Adds the tools that answer at once."""

    @server.tool(description="Simple text.")
    def test_simple_text() -> str:
        return "One text."

    @server.tool(description="Image content.")
    def test_image_content() -> list[ImageContent]:
        return [picture()]

    @server.tool(description="Audio content.")
    def test_audio_content() -> list[AudioContent]:
        return [AudioContent(type="audio", data=SOUND, mime_type="audio/wav")]

    @server.tool(description="Embedded resource.")
    def test_embedded_resource() -> list[EmbeddedResource]:
        return [embedded("test://embedded-resource", "text/plain", "Embedded text.")]

    @server.tool(description="Multiple content types.")
    def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
        return [
            TextContent(type="text", text="Text, picture and resource."),
            picture(),
            embedded("test://mixed-content-resource", "application/json", json.dumps({"mixed": True})),
        ]

    @server.tool(description="Error handling.")
    def test_error_handling() -> str:
        raise RuntimeError("this text must not reach the client")


def add_documents(server: MCPServer[None]) -> None:
    """Adds the resources, prompts and completions."""

    @server.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        return "A static text."

    @server.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        return a_picture()

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:  # the suite's own name for it
        return json.dumps({"id": id, "templateTest": True})

    @server.resource("test://watched-resource", mime_type="text/plain")
    def watched() -> str:
        return "A watched text."

    @server.prompt(description="Simple prompt.")
    def test_simple_prompt() -> str:
        return "A prompt without arguments."

    @server.prompt(description="Prompt with arguments.")
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        return f"arg1={arg1!r} arg2={arg2!r}"

    @server.prompt(description="Prompt with embedded resource.")
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
        return [UserMessage(embedded(resourceUri, "text/plain", "Embedded text.")), UserMessage("Read the resource.")]

    @server.prompt(description="Prompt with image.")
    def test_prompt_with_image() -> list[UserMessage]:
        return [UserMessage(picture()), UserMessage("Look at the picture.")]

    @server.completion()
    async def complete(
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion:
        return Completion(values=[f"{argument.value}…"], total=1, has_more=False)
