"""Commands run as from a shell, in this process."""

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from batchnorm.cli import main

from . import models

MODULE = models.__name__


def call(command, *options, model="small", **named):
    """``batchnorm command --model ...``; keyword arguments become options."""
    given = [text for name, value in named.items() for text in (f"--{name}", str(value))]
    return main([command, "--model", f"{MODULE}:{model}", *options, *given])


def name(function):
    return f"{MODULE}:{function}"


def trained(make=models.small, seed=7):
    """With weights and statistics unlike those of a new one, in eval mode."""
    torch.manual_seed(seed)
    model = make()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor))
    return model.eval()


def header(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def rebuilt(shown):
    """The model that the printed Python makes."""
    namespace = {}
    exec(shown.split("to load it:")[1], namespace)
    return namespace["model"]


def same(path, state):
    found = load_file(path)
    return list(found) and all(torch.equal(found[n], t) for n, t in state.items())
