"""The command `demo`: a page on this machine to try the sizes of a model on."""

from __future__ import annotations

from argparse import Namespace

from rich.console import Console

from ..hub.page import make_page
from .inputs import load_model, needed_tokenizer


def demo(arguments: Namespace, console: Console) -> None:
    """Serve the page until it is interrupted."""
    page = make_page(load_model(arguments.model), needed_tokenizer(arguments.model))
    console.print("Press Ctrl+C to stop.")
    page.launch(server_name="127.0.0.1", server_port=arguments.port, inbrowser=not arguments.no_browser, share=False)
