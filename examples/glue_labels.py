"""The models of run_glue.py and the labels they know: in which order, and by which names."""

from glue_data import relabel
from recipe_data import InputError
from recipe_training import config_of, load_model
from transformers import AutoModelForSequenceClassification

from dynabert_hf.data.class_names import model_names_of
from dynabert_hf.messages import get_logger
from dynabert_hf.task_metrics import has_generic_names

logger = get_logger("run_glue")


def load_classifier(name, labels, model_args, *, new_head, has_several=False, revision="main"):
    """A sequence classification model for the task.

    Args:
        name: Folder or Hub id.
        labels: Names of the task's labels; None: regression.
        model_args: `ModelArguments`.
        new_head: Whether a head that does not fit, or is not there, may be made anew.
        has_several: Whether a row has any number of the labels.
        revision: Branch, tag or commit.
    """
    kind = "regression" if labels is None else None
    settings = {"problem_type": "multi_label_classification" if has_several else kind}
    if labels is not None:
        settings |= told_names(name, labels, model_args, new_head=new_head, revision=revision)
    return load_model(
        name,
        AutoModelForSequenceClassification,
        model_args,
        num_labels=1 if labels is None else len(labels),
        new_head=new_head,
        revision=revision,
        **settings,
    )


def told_names(name, labels, model_args, *, new_head, revision="main"):
    """The names of classes that a configuration is given: for a new head those of the data, else what the user says.

    Args:
        name: Folder or Hub id of the model.
        labels: Names of the labels of the data.
        model_args: `ModelArguments`, whose `label_order` a model may need that has no names of its own.
        new_head: Whether a head that does not fit, or is not there, may be made anew.
        revision: Branch, tag or commit.

    Returns:
        Fields of a configuration; none where the model's own names hold.
    """
    names = labels if new_head else model_args.label_order
    if names is None:
        return {}
    if not new_head:
        _check_label_order(name, names, labels, config_of(name, model_args, revision=revision))
    return {"id2label": dict(enumerate(names)), "label2id": {label: number for number, label in enumerate(names)}}


def load_teacher(name, data, model_args):
    """The classifier that teaches a single stage, whose labels are those of the data, in their order."""
    teacher = load_classifier(name, data.labels, model_args, new_head=False, has_several=data.has_several)
    if has_generic_names(teacher.config):
        align_labels(data, teacher.config, logger.warning)
    elif data.labels is not None:
        order = [teacher.config.id2label[index] for index in range(teacher.config.num_labels)]
        if in_order_of(data.labels, order) != tuple(data.labels):
            raise InputError(
                f"The teacher {name!r} has the labels {order}, the model {list(data.labels)}. Give one that was "
                "trained on the same labels in the same order."
            )
    return teacher


def _check_label_order(name, names, labels, config):
    """The names that were given are those of the data, for a model that has none of its own."""
    if sorted(names) != sorted(labels):
        raise InputError(f"--label_order {' '.join(names)} was given, but the labels of the data are {list(labels)}.")
    own = [config.id2label[index] for index in range(config.num_labels)]
    if not has_generic_names(config) and own != list(names):
        raise InputError(
            f"--label_order {' '.join(names)} was given, but {name!r} itself calls its classes {own}. Leave it out."
        )


def align_labels(data, config, warn):
    """The data with labels in the order of the model's, where both have the same names.

    Args:
        data: `TextData`.
        config: Configuration of the model.
        warn: Told in a few sentences if the model has no names or others.
    """
    if data.labels is None:
        return data
    if has_generic_names(config):
        if list(data.labels) != [str(number) for number in range(config.num_labels)]:
            warn(
                f"The model calls its classes {', '.join(config.id2label.values())}, which does not tell their order. "
                f"They are taken to be {list(data.labels)}. If that is not the order that the model was trained in, "
                "its accuracy is meaningless: give the right one by --label_order."
            )
        return data
    order = in_order_of(data.labels, [config.id2label[index] for index in range(config.num_labels)])
    if order is None:
        warn(
            f"The labels of the data are {list(data.labels)}, those of the model {list(config.id2label.values())}. "
            "They are taken in this order."
        )
        return data
    return data if order == tuple(data.labels) else relabel(data, order)


def in_order_of(labels, names):
    """The labels in the order of a model's names, in which case counts where it must; None: they are others."""
    called = model_names_of(labels, dict(enumerate(names)))
    if called is None or sorted(called) != sorted(names):
        return None
    return tuple(labels[called.index(name)] for name in names)
