"""Classify sentences with a trained model at several of its sizes: given ones, or those typed at the prompt.

python examples/classify.py outputs/demo/dynabert/model "What a film."
"""

import argparse

from rich.console import Console
from rich.table import Table
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

import dynabert_hf  # noqa: F401  (makes the model known to the Auto classes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub id of an elastic model with a sequence classification head")
    parser.add_argument("sentences", nargs="*", help="sentences to classify (default: ask for them)")
    arguments = parser.parse_args()
    model = AutoModelForSequenceClassification.from_pretrained(arguments.model)
    classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(arguments.model))
    sizes = model.config.subnetworks
    sizes = [sizes[0], sizes[len(sizes) // 2], sizes[-1]]
    console = Console()
    for sentence in arguments.sentences or typed():
        table = Table()
        for heading in ("size", "label", "confidence"):
            table.add_column(heading)
        for size in sizes:
            model.set_active(width=size.width, depth=size.depth)
            answer = classify(sentence)[0]
            table.add_row(str(size), answer["label"], f"{answer['score']:.3f}")
        console.print(sentence, table)


def typed():
    """Sentences from the prompt, until an empty one."""
    while sentence := input("Sentence (empty line to stop): ").strip():
        yield sentence


if __name__ == "__main__":
    main()
