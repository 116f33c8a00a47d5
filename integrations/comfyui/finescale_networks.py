"""finescale's networks in ComfyUI.

Put this file into ComfyUI's folder ``custom_nodes``, and install finescale into its Python:
``pip install 'finescale[spandrel]'``. "Load Upscale Model" then opens published files of HiT-SR, SRFormer, SwinIR-NG,
NGswin, CIT and the sliding proxy network; "Load finescale Model" also opens files with settings of their own.
"""

import folder_paths

from finescale.integrations.spandrel import install, open_file

install()


class LoadFinescaleModel:
    """Node that opens a file of the folder upscale_models with all settings of its header."""

    RETURN_TYPES = ("UPSCALE_MODEL",)
    FUNCTION = "load"
    CATEGORY = "loaders"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802  the name that ComfyUI asks for
        """Return the inputs of the node: a file."""
        return {"required": {"model_name": (folder_paths.get_filename_list("upscale_models"),)}}

    def load(self, model_name):
        """Return the model of a file."""
        return (open_file(folder_paths.get_full_path("upscale_models", model_name)),)


NODE_CLASS_MAPPINGS = {"LoadFinescaleModel": LoadFinescaleModel}
NODE_DISPLAY_NAME_MAPPINGS = {"LoadFinescaleModel": "Load finescale Model"}
