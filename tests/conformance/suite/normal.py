"""What must differ between two servers is put out of sight: ports, folders, and httpd's prefix of log lines."""

import json
import re

# "[date] [module:level] [pid 1:tid 2] [client 127.0.0.1:3] text", the last two optional.
LINE = re.compile(
    r"\[[^\]]+\] \[(?P<module>\w*):(?P<level>\w+)\] (?:\[pid [^\]]*\] )?(?P<client>\[(?:client|remote) [^\]]*\] )?"
    r"(?P<text>.*)"
)
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")


class Normal:
    """Normalises text and values of one server."""

    def __init__(self, replaced):
        # The longest first: a folder may begin with the name of another one.
        self.replaced = sorted(replaced.items(), key=lambda item: -len(item[0]))
        self.numbers = {int(text): name for text, name in replaced.items() if text.isdigit()}

    def text(self, text):
        """A string without the server's own names and numbers."""
        for old, new in self.replaced:
            text = re.sub(rf"(?<!\d){old}(?!\d)", new, text) if old.isdigit() else text.replace(old, new)
        return ADDRESS.sub("0x", text)

    def value(self, value):
        """The same for anything that JSON can say."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bool):
            return value
        if isinstance(value, int):
            return self.numbers.get(value, value)
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, bytes):
            return self.text(value.decode("latin-1"))
        return value

    def body(self, body, content_type):
        """A body: JSON as what it says, anything else as text."""
        if (content_type or "").startswith("application/json"):
            try:
                return self.value(json.loads(body))
            except ValueError:
                pass
        return self.text(body.decode("latin-1"))

    def log_line(self, line):
        """`level: text` of a line of the error log; `level, client: text` if the line names the client."""
        found = LINE.match(line)
        if not found:
            return self.text(line)
        client = ", client" if found["client"] else ""
        return f"{found['level']}{client}: {self.text(found['text'])}"
