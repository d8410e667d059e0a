"""What a run demands of a machine, computed from its real configuration: `python benchmarks/scale.py`.

The train module of each task is built as in a run, and two images pass forward on the CPU. The table lists the bytes of
weights, gradients and moments, of the tensors that autograd stores for the backward pass, of a checkpoint, and of the
communication between devices per step, for the optimizer of each recipe. GB are 10^9 bytes. The memory of a device's
own libraries (about 1 GB) comes on top.
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
FLOAT_BYTES = 4


def build_train_module(task: str, backbone: str, size: int, num_images: int) -> TrainModule:
    """The train module of a run of this task."""
    recipe = find_recipe(task)
    stored = math.ceil(size * recipe.storage_scale)

    def sample_images(n: int) -> torch.Tensor:
        return torch.randint(0, 256, (min(n, 16), 3, stored, stored), dtype=torch.uint8)

    with seeded(0):
        spec = InputSpec((0.5,) * 3, (0.25,) * 3, grayscale=recipe.grayscale)
        network = build_backbone(backbone, size=size, input_spec=spec, pooling=recipe.pooling)
        return TrainModule(network, recipe.task.build(network, DataInfo(num_images, 3, sample_images, size)))


def activation_bytes(train_module: TrainModule, stored: int) -> float:
    """Bytes per image that autograd stores between the passes, besides parameters."""
    parameters = {p.untyped_storage().data_ptr() for p in train_module.parameters()}
    stored_bytes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            stored_bytes[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = Batch(torch.randint(0, 256, (2, 3, stored, stored), dtype=torch.uint8), torch.arange(2))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = train_module(batch, SampleRNG(0, torch.arange(2)), TrainingClock(50, 100, 0.5))
    assert output.loss.requires_grad
    return sum(stored_bytes.values()) / 2


def num_muon_parameters(train_module: TrainModule, recipe: Recipe) -> int:
    """How many numbers Muon updates: it has one moment of each, and needs their whole matrices."""
    groups = make_optimizer(train_module, recipe.optim).param_groups
    return sum(p.numel() for group in groups if group["orthogonal"] for p in group["params"])


def main() -> None:
    """Print one line per task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="rotation,mae,dino")
    parser.add_argument("--backbone", default="vit_base")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--activation-checkpointing", action="store_true", help="as in headway pretrain")
    args = parser.parse_args()
    n = args.devices
    print(f"{args.backbone} at {args.size} px, {args.images:,} images, {n} devices, float32")
    print("| task | trained | teacher | per device, DDP | per device, FSDP2 | activations per image | checkpoint | "
          "sent per step, DDP | FSDP2 |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for task in args.tasks.split(","):
        train_module = build_train_module(task, args.backbone, args.size, args.images)
        if args.activation_checkpointing:
            enable_activation_checkpointing(train_module.backbone)
        stored = math.ceil(args.size * find_recipe(task).storage_scale)
        trained = sum(p.numel() for p in train_module.parameters() if p.requires_grad)
        teacher = sum(p.numel() for p in train_module.parameters() if not p.requires_grad)
        muon = num_muon_parameters(train_module, find_recipe(task))  # these have one moment, the others two
        saved = 3 * trained - muon + teacher  # weights and moments; a teacher has weights alone
        total = FLOAT_BYTES * (saved + trained)  # and gradients
        ring = (n - 1) / n
        ddp, fsdp = 2 * ring * FLOAT_BYTES * trained, ring * FLOAT_BYTES * (3 * trained + muon + teacher)
        cells = [
            f"{trained / 1e6:.0f} M", f"{teacher / 1e6:.0f} M", f"{total / GB:.2f} GB", f"{total / n / GB:.2f} GB",
            f"{activation_bytes(train_module, stored) / 1e6:.0f} MB", f"{FLOAT_BYTES * saved / GB:.2f} GB",
            f"{ddp / GB:.2f} GB", f"{fsdp / GB:.2f} GB",
        ]  # fmt: skip
        print(f"| {task} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
