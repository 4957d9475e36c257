"""The frame around all pages: how they look, what they share at the top and below the inputs, how they are served."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from gradios.desk import Desk
from gradios.uploads import MAX_FILE
from utils.commands.argument_groups import add_machine_arguments
from utils.pretrained import choose_device

ASSETS = Path(__file__).resolve().parent / "assets"
LOCAL = ("127.0.0.1", "localhost", "::1")
SYSTEM_FONTS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Helvetica Neue", "Arial", "sans-serif")
MONO_FONTS = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
CACHE_SECONDS = 3600  # for which the files of a visitor are kept
WAITING_ROOM = 8  # requests in Gradio's queue, behind those in `gradios.running.Line`


@dataclass(frozen=True)
class Page:
    """
    Attributes:
        title: Of its tab.
        lead: What one can do, in a sentence.
        build: Puts its components into the open `gr.Blocks`.
    """

    title: str
    lead: str
    build: Callable[[Desk], None]


def asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """Machine and server of a page."""
    group = parser.add_argument_group("machine and server")
    add_machine_arguments(group)
    add = group.add_argument
    add("--server_name", default="127.0.0.1", help="address to listen on; 0.0.0.0 is every address of this machine")
    add("--server_port", type=int, help="port (default: the first free one from 7860 on)")
    add("--share", action="store_true", help="open the pages to the internet through Gradio's servers")
    add("--auth", metavar="USER:PASSWORD", help="what visitors have to say (default: nothing is asked)")


def serve(pages: Sequence[Page], args: argparse.Namespace, wait: bool = True) -> gr.Blocks:
    """Open pages, as tabs where there are several.

    Args:
        args: Of `add_server_arguments`.
        wait: Whether to return only when the server ends.
    """
    auth = read_auth(args.auth)
    choose_device(args.device)
    local = is_local(args)
    if not local:
        print(warning(args, auth is not None), file=sys.stderr)
    desk = Desk(args.device, args.dtype, choose_weights=local)
    blocks = make_blocks(pages, desk)
    blocks.queue(max_size=WAITING_ROOM, default_concurrency_limit=4).launch(
        server_name=args.server_name,
        server_port=args.server_port,
        share=args.share,
        auth=auth,
        prevent_thread_lock=not wait,
        quiet=not wait,
        **look(),
        **guard(),
    )
    return blocks


def look() -> dict:
    """Arguments of `launch` on how pages look."""
    head = f"<script>{asset('theme.js')}</script>"
    return {"theme": theme(), "css": asset("frame.css"), "head": head, "footer_links": ["api"]}


def guard() -> dict:
    """Arguments of `launch` that keep a server to its pages, whatever the environment says."""
    os.environ.pop("GRADIO_ALLOWED_PATHS", None)  # has no argument that says none
    return {
        "max_file_size": MAX_FILE,
        "show_error": False,
        "mcp_server": False,
        "ssr_mode": False,
        "run_history": False,
        "enable_monitoring": False,
        "strict_cors": True,
    }


def is_local(args: argparse.Namespace) -> bool:
    """Whether this machine alone reaches the server."""
    return args.server_name in LOCAL and not args.share


def read_auth(text: str | None) -> tuple[str, str] | None:
    """User and password of --auth; raises ValueError where one of them is missing."""
    if text is None:
        return None
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise ValueError("--auth takes USER:PASSWORD, with both of them.")
    return user, password


def warning(args: argparse.Namespace, asked: bool) -> str:
    """What opening the pages up means."""
    who = (
        "everyone on the internet who learns its address"
        if args.share
        else f"every machine that reaches {args.server_name}"
    )
    condition = " and knows the password" if asked else ""
    advice = "" if asked else " Add --auth USER:PASSWORD to ask for a password."
    return f"warning: {who}{condition} can sample with this machine; weights cannot be chosen in the pages.{advice}"


def make_blocks(pages: Sequence[Page], desk: Desk) -> gr.Blocks:
    """All pages in one."""
    title = "Duet" if len(pages) > 1 else f"{pages[0].title} · Duet"
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(CACHE_SECONDS, CACHE_SECONDS)) as blocks:
        gr.HTML(asset("header.html"), js_on_load=asset("header.js"), elem_id="duet-header")
        if len(pages) == 1:
            _put(pages[0], desk)
            return blocks
        with gr.Tabs(elem_id="duet-tabs"):
            for page in pages:
                with gr.Tab(page.title):
                    _put(page, desk)
    return blocks


def _put(page: Page, desk: Desk) -> None:
    gr.HTML(f'<div class="duet-lead"><h1>{page.title}</h1><p>{page.lead}</p></div>')
    page.build(desk)


def theme() -> gr.themes.Base:
    """Quiet neutral surfaces, one accent, the fonts of the system."""
    plain = gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.stone,
        radius_size=gr.themes.sizes.radius_lg,
        font=SYSTEM_FONTS,
        font_mono=MONO_FONTS,
    )
    return plain.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_200",
        block_label_text_color="*neutral_800",
        block_label_text_color_dark="*neutral_200",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        color_accent="*primary_700",
        block_label_background_fill="white",
        block_label_background_fill_dark="*neutral_900",
        block_label_border_width="0px",
        block_label_text_weight="600",
        block_title_text_weight="600",
        block_shadow="none",
        input_background_fill="white",
        input_background_fill_dark="*neutral_950",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_700",
        button_border_width="1px",
        button_border_width_dark="1px",
        slider_color="*primary_700",
        slider_color_dark="*primary_500",
    )
