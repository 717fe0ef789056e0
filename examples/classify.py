"""Classify sentences with a trained model at several of its sizes.

python examples/classify.py outputs/demo/dynabert/model "What a film."
"""

import argparse
from contextlib import suppress

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from script_errors import in_one_line
from transformers import AutoModelForSequenceClassification

from dynabert_hf.cli.inputs import load_with_head, needed_tokenizer
from dynabert_hf.cli.predictions import predict_texts
from dynabert_hf.families import check_elastic, sizes_of
from dynabert_hf.sizes.records import size_label
from dynabert_hf.training.callbacks import bars_of_files_in_terminals


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub id of an elastic model with a sequence classification head")
    parser.add_argument("sentences", nargs="*", help="sentences to classify (default: ask for them)")
    parser.add_argument("--label", action="append", help="the right label of a sentence, once for each")
    arguments = parser.parse_args()
    if arguments.label and len(arguments.label) != len(arguments.sentences):
        parser.error(
            f"{len(arguments.label)} labels were given for {len(arguments.sentences)} sentences. Give one --label for "
            "each sentence, in their order, or none."
        )
    with in_one_line("classify.py"), bars_of_files_in_terminals():
        run(arguments)


def run(arguments):
    """Show what three sizes, or as many as there are, say of each sentence."""
    model = load_with_head(AutoModelForSequenceClassification, arguments.model, "model that classifies texts")
    check_elastic(model)
    model.eval()
    tokenizer = needed_tokenizer(arguments.model)
    sizes = sizes_of(model)
    sizes = list(dict.fromkeys([sizes[0], sizes[len(sizes) // 2], sizes[-1]]))  # of an extracted one there is one
    console = Console()
    labels = iter(arguments.label or [])
    for sentence in arguments.sentences or typed():
        label = next(labels, None)
        table = Table("size", title=label and f"right: {escape(label)}", title_justify="left")
        for size in sizes:
            model.set_active(size)
            [answer] = predict_texts(model, tokenizer, [(sentence,)], batch_size=1)
            for heading in answer if size == sizes[0] else ():
                table.add_column(heading.replace("score", "confidence"))
            table.add_row(size_label(size), *(escape(in_words(each)) for each in answer.values()))
        console.print(escape(sentence), table)


def in_words(answer):
    """A label, a number, several labels, or a number for each of them."""
    if isinstance(answer, dict):
        return ", ".join(f"{name} {share:.3f}" for name, share in answer.items())
    if isinstance(answer, list):
        return ", ".join(answer)
    return f"{answer:.3f}" if isinstance(answer, float) else answer


def typed():
    """Sentences from the prompt, until an empty one or the end of the input."""
    with suppress(EOFError):
        while sentence := input("Sentence (empty line to stop): ").strip():
            yield sentence


if __name__ == "__main__":
    main()
