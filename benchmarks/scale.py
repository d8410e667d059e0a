"""What a run asks of a machine, computed from its real configuration: `python benchmarks/scale.py --backbone vit_base`.

Learners are built as a run builds them and two images go forward, on the processor. Counted are the bytes of weights,
gradients and moments, those that autograd keeps for the backward pass, those of a checkpoint, and those that cross
between devices in a step, by the optimizer of each recipe. GB are 10^9 bytes. What a device's own libraries take
(about 1 GB) comes on top.
"""

import argparse
import math

import torch

from headway.backbones.build import build_backbone
from headway.config import Recipe
from headway.pretext import find_recipe
from headway.protocol import Batch, DataInfo, InputSpec, TrainingClock, TrainModule
from headway.rng import SampleRNG, seeded
from headway.train.engine.oom import enable_activation_checkpointing
from headway.train.engine.optimizer import make_optimizer

GB = 1e9
FLOAT = 4


def build(task: str, backbone: str, size: int, pictures: int) -> TrainModule:
    """The learner that a run of this task would train."""
    recipe = find_recipe(task)
    stored = math.ceil(size * recipe.storage_scale)

    def sample(n: int) -> torch.Tensor:
        return torch.randint(0, 256, (min(n, 16), 3, stored, stored), dtype=torch.uint8)

    with seeded(0):
        inputs = InputSpec((0.5,) * 3, (0.25,) * 3, grayscale=recipe.grayscale)
        network = build_backbone(backbone, size=size, input_spec=inputs, pooling=recipe.pooling)
        return TrainModule(network, recipe.task.build(network, DataInfo(pictures, 3, sample, size)))


def kept_for_backward(learner: TrainModule, stored: int) -> float:
    """Bytes an image that autograd holds between the passes, beside parameters."""
    own = {p.untyped_storage().data_ptr() for p in learner.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = Batch(torch.randint(0, 256, (2, 3, stored, stored), dtype=torch.uint8), torch.arange(2))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outcome = learner(batch, SampleRNG(0, torch.arange(2)), TrainingClock(50, 100, 0.5))
    assert outcome.loss.requires_grad
    return sum(seen.values()) / 2


def muon_moves(learner: TrainModule, recipe: Recipe) -> int:
    """How many numbers Muon moves: it keeps one moment of each, and wants their whole matrices."""
    groups = make_optimizer(learner, recipe.optim).param_groups
    return sum(p.numel() for group in groups if group["orthogonal"] for p in group["params"])


def main() -> None:
    """Print one line a task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default="rotation,mae,dino")
    parser.add_argument("--backbone", default="vit_base")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--activation-checkpointing", action="store_true", help="as of headway pretrain")
    arguments = parser.parse_args()
    n = arguments.devices
    print(f"{arguments.backbone} at {arguments.size} px, {arguments.pictures:,} images, {n} devices, float32")
    print("| task | trained | teacher | each holds, DDP | each holds, FSDP2 | an image's activations | checkpoint | "
          "sent a step, DDP | FSDP2 |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for task in arguments.tasks.split(","):
        learner = build(task, arguments.backbone, arguments.size, arguments.pictures)
        if arguments.activation_checkpointing:
            enable_activation_checkpointing(learner.backbone)
        stored = math.ceil(arguments.size * find_recipe(task).storage_scale)
        trained = sum(p.numel() for p in learner.parameters() if p.requires_grad)
        still = sum(p.numel() for p in learner.parameters() if not p.requires_grad)
        turned = muon_moves(learner, find_recipe(task))  # these have one moment, the others two
        kept = 3 * trained - turned + still  # weights and moments; a teacher is weights alone
        whole = FLOAT * (kept + trained)  # and gradients
        ring = (n - 1) / n
        ddp, fsdp = 2 * ring * FLOAT * trained, ring * FLOAT * (3 * trained + turned + still)
        cells = [
            f"{trained / 1e6:.0f} M", f"{still / 1e6:.0f} M", f"{whole / GB:.2f} GB", f"{whole / n / GB:.2f} GB",
            f"{kept_for_backward(learner, stored) / 1e6:.0f} MB", f"{FLOAT * kept / GB:.2f} GB",
            f"{ddp / GB:.2f} GB", f"{fsdp / GB:.2f} GB",
        ]  # fmt: skip
        print(f"| {task} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
