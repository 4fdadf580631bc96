"""ResNet-18-16: ResNet-18 refined on CIFAR-10, each conv-norm-relu a slot (section 4.2, tables 5,
6).

The paper: ResNet-18 93.46 %, ResNet-18-16 93.71 % with 20 % fewer FLOPs; its vector is
1,0,0,2,0,0,0,0,1,0,0,0,0,0,0,2. All numbers are those of resnet18-8-cifar10; the slots alone
differ.
"""

from refiner.recipes.resnet18_8_cifar10 import refine_on_cifar10

from refiner.runs.recipe import RecipeSettings


def run(settings: RecipeSettings) -> None:
    """Run the experiment: R without, RP with a warm-up on random paths."""
    refine_on_cifar10(settings, slots="conv")
