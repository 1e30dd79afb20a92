"""The ways to explain, as pages, routes and the shell offer them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """A way to explain: its title and what it shows.

    cam: the grad-cam library's class, if any. of_class: whether its maps depend on the class.
    """

    title: str
    help: str
    cam: str = ""
    of_class: bool = True

    def shows(self, class_name: str) -> str:
        """What is bright in its map for a class, in words."""
        if self.of_class:
            return f"what speaks for {class_name}"
        return "what the layer sees most of, whatever the class"


METHODS = {
    "gradcam": Method(
        "Grad-CAM", "What speaks for the class, coarsely (Selvaraju et al. 2017).", "GradCAM"
    ),
    "gradcam++": Method(
        "Grad-CAM++", "The same, better where a thing is there several times (Chattopadhay et al. "
        "2018).", "GradCAMPlusPlus",
    ),
    "hirescam": Method(
        "HiResCAM", "Only what the layer truly passed on for the class (Draelos and Carin 2020).",
        "HiResCAM",
    ),
    "layercam": Method(
        "LayerCAM", "Finer maps, also of earlier layers (Jiang et al. 2021).", "LayerCAM"
    ),
    "eigencam": Method(
        "EigenCAM", "What the layer sees most of: the same map for every class (Muhammad and "
        "Yeasin 2020).", "EigenCAM", of_class=False,
    ),
    "occlusion": Method(
        "Occlusion", "What is missed when it is covered: slow, and of any model (Zeiler and Fergus "
        "2014).",
    ),
}  # fmt: skip
# The same, a line each.
HELP = "\n".join(f"- {one.title}: {one.help}" for one in METHODS.values())
