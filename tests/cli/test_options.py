"""Errors of the package in the words of a command line."""

from dynabert_hf.cli.options import with_options

OPTIONS = {"seed": "--seed", "space": "--space", "text_columns": "--text-column"}


def test_arguments_of_python_become_options_where_a_person_sets_them():
    told = with_options("seed=-1 is none. Leave space=True out, or give text_columns=['a'].", OPTIONS)
    assert told == "--seed -1 is none. Leave --space out, or give --text-column ['a']."


def test_arguments_that_are_only_named_become_options_without_a_value():
    told = with_options("Possible are seed=, space=; give text_columns= the names, or seed=.", OPTIONS)
    assert told == "Possible are --seed, --space; give --text-column the names, or --seed."


def test_what_no_option_sets_and_calls_that_are_written_out_stay():
    for text in ("width=0.3 is not in it.", "draw(seed=1)", "my_seed=1", "config.seed=1", "--seed=1", "The seed is 1."):
        assert with_options(text, OPTIONS) == text


def test_a_call_stays_whole_whichever_of_its_arguments_an_option_sets():
    told = with_options("Take table(all(rows)).select(dtype='int8', seed=1, space=True), or seed=1.", OPTIONS)
    assert told == "Take table(all(rows)).select(dtype='int8', seed=1, space=True), or --seed 1."
