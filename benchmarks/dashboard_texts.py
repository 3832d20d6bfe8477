"""Text that would be markup, script or a formula if anybody took it for that: for prompts, names and notes."""

from __future__ import annotations

MARK = "__pwned"
"""A property of the page's window that none of these texts may set."""

CORPUS = (
    f"<script>window.{MARK}=1</script>",
    f'<img src=x onerror="window.{MARK}=2">',
    f'"><svg onload=window.{MARK}=3>',
    f"{{{{constructor.constructor('window.{MARK}=4')()}}}}",
    f"${{window.{MARK}=5}}",
    f"`;window.{MARK}=6;`",
    f'</textarea><iframe srcdoc="<script>parent.{MARK}=7</script>"></iframe>',
    f"javascript:window.{MARK}=8",
    f":onclick=window.{MARK}=9",
    "{bold|rich} <b>text</b> &amp; &lt;i&gt;",
    '=HYPERLINK("http://evil.example","x")',
    f"</script><script>window.{MARK}=10</script>",
    f"' onmouseover='window.{MARK}=11",
)
"""Each must be shown as it is, and do nothing."""
