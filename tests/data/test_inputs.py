"""Tokenised rows that a model cannot read are refused by row, value and limit."""

import pytest
import torch
from datasets import Dataset
from helpers.backbones import make_backbone, make_stock
from helpers.tiny import make_model

from dynabert_hf.data.inputs import check_inputs, check_paddable

FORMS = {"Dataset": Dataset.from_list, "list": list, "torch": lambda rows: Dataset.from_list(rows).with_format("torch")}


def sentences(*rows, **columns):
    return [
        {"input_ids": ids, **{name: values[row] for name, values in columns.items()}} for row, ids in enumerate(rows)
    ]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (sentences([5], [5] * 21), r"data has 21 tokens in row 1\. The model has positions for 20\. .*max_length=20"),
        (
            sentences([5], [5, 99]),
            r"data has 99 in 'input_ids' of row 1\. Possible .* 0 to 98, since vocab_size=99\. Tok",
        ),
        (sentences([5], [-1]), r"data has -1 in 'input_ids' of row 1"),
        (sentences([5], []), r"data has no tokens in row 1\. Leave it out"),
        (
            sentences([[5]], [[6]]),
            r"'input_ids' of type .*list.*A DynaBertForSeq\w+ takes a list of ids in a row\. .*once",
        ),
        (
            sentences([5, 6], [7], attention_mask=[[1, 1], [1, 1]]),
            r"data has 2 values of 'attention_mask' for 1 tok.* row 1",
        ),
        (
            sentences([5, 6], [7], token_type_ids=[[0, 0], [2]]),
            r"data has 2 in 'token_type_ids' of row 1.*type_vocab_size=2",
        ),
        (
            sentences([5, 6], [7], position_ids=[[0, 20], [0]]),
            r"data has 20 in 'position_ids' of row 0\. Possible for this model are 0 to 19\. Leave the column out",
        ),
        (
            sentences([5, 6], [7], attention_mask=[None, [1]]),
            r"data has no 'attention_mask' in row 0, but in others\. Give it in all rows or in none",
        ),
        (sentences([5.0], [6.5]), r"data has 'input_ids' of type .*Ids are whole numbers; take those of the tokenizer"),
    ],
)
def test_what_a_model_cannot_read_is_named(rows, message, form):
    with pytest.raises(ValueError, match=message):
        check_inputs("data", form(rows), make_model())


def test_a_roberta_has_positions_for_fewer_tokens():
    model = make_model("Roberta", stock={"pad_token_id": 1})
    check_inputs("data", sentences([5] * 18), model)
    with pytest.raises(ValueError, match=r"data has 19 tokens in row 0\. The model has positions for 18"):
        check_inputs("data", sentences([5] * 19), model)


def test_relative_positions_take_texts_of_any_length():
    model = make_backbone("DebertaV2", position_biased_input=False)
    check_inputs("data", sentences([5] * 50), model)
    batch = {"input_ids": torch.arange(50).view(1, -1)}
    with torch.no_grad():
        assert torch.equal(model(**batch).logits, make_stock("DebertaV2", position_biased_input=False)(**batch).logits)
    with pytest.raises(ValueError, match=r"data has 50 tokens in row 0\. The model has positions for 20"):
        check_inputs("data", sentences([5] * 50), make_backbone("DebertaV2"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            sentences([5, 6], [7]),
            "takes a list of choices, each a list of ids in a row. Tokenise the choices of each row",
        ),
        (sentences([[5], [6]], [[7]]), r"data has 1 choices in row 1 and 2 in row 0\. .*Add wrong choices"),
        (sentences([[5], [6]], [[7], [5] * 21]), "data has 21 tokens in row 1"),
        (sentences([[5], [6]], [[7], []]), "data has no tokens in row 1"),
        (sentences([[5], [6]], [[7], [99]]), "data has 99 in 'input_ids' of row 1"),
        (
            sentences([[5], [6, 7]], attention_mask=[[[1], [1]]]),
            r"data has 1 values of 'attention_mask' for 2 tokens in row 0",
        ),
    ],
)
def test_choices_that_cannot_be_compared_are_named(rows, message):
    with pytest.raises(ValueError, match=message):
        check_inputs("data", Dataset.from_list(rows), make_model(head="ForMultipleChoice"))


def test_what_a_model_can_read_passes():
    check_inputs(
        "data", sentences([5] * 20, [98], attention_mask=[[1] * 20, [1]], token_type_ids=[[1] * 20, [0]]), make_model()
    )
    check_inputs("data", sentences([[5], [6, 7]], [[98], [5] * 20]), make_model(head="ForMultipleChoice"))
    check_inputs("data", [{"text": "not tokenised yet"}], make_model())


@pytest.mark.parametrize("family", ["DebertaV2", "DistilBert", "EuroBert", "MPNet", "ModernBert"])
def test_token_types_that_a_model_does_not_read_pass_whatever_they_are(family):
    check_inputs("data", sentences([5, 6], [7], token_type_ids=[[0, 1], [2]]), make_stock(family))


def test_rotary_positions_have_no_last_one():
    check_inputs("data", sentences([5], position_ids=[[10**6]]), make_stock("ModernBert"))


def test_rows_that_cannot_be_stacked_are_refused():
    check_paddable("data", sentences([5, 6], [7, 8]))
    with pytest.raises(
        ValueError, match=r"rows of 1 to 2 tokens, and nothing that pads.* processing_class, or pad when"
    ):
        check_paddable("data", sentences([5, 6], [7]))
