"""Networks as repositories of the Hugging Face hub, by the mixin of the hub's client; needs the extra "hub".

`HubNetwork`, which holds a network, has the mixin's methods; the networks themselves do not, since they know no files
and the hub's client is optional.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor
from typing_extensions import Self

from finescale import weights, zoo
from finescale.errors import MissingExtraError, WeightsError
from finescale.networks import Frame
from finescale.weights.download import HUB_FILE
from finescale.weights.header import identity_of

try:
    from huggingface_hub import ModelCard, ModelHubMixin, hf_hub_download
except ImportError:
    raise MissingExtraError("the hub needs its client; install it with pip install 'finescale[hub]'") from None


class HubNetwork(ModelHubMixin):
    """A network that can be saved as a repository of the hub, pushed to it, and read back from it.

    `save_pretrained`, `push_to_hub` and `from_pretrained` are those of ``huggingface_hub.ModelHubMixin``, with the
    errors of its connection. A repository holds ``model.safetensors`` with our header, ``config.json`` for other
    readers, and a model card. Authors' repositories are read as well.

    Args:
        network: Of one of our families.
        source: Where the weights come from, as for `finescale.save`.
        licence: Of the weights, as an SPDX identifier where there is one: "Apache-2.0".
    """

    def __init__(self, network: Frame, *, source: str, licence: str | None = None) -> None:
        self.network = network
        self.source = source
        self.licence = licence

    def __call__(self, image: Tensor) -> Tensor:
        """Upscale images, as the network does."""
        upscaled: Tensor = self.network(image)
        return upscaled

    def push_to_hub(self, repo_id: str, *, model_card_kwargs: dict[str, Any] | None = None, **options: Any) -> str:
        """Save and upload to a repository, which is created if it does not exist; its card shows how to use it.

        Args:
            repo_id: "owner/name".
            model_card_kwargs: Further arguments of `finescale.zoo.model_card`.
            options: As for the mixin: ``private``, ``token``, ``commit_message`` and others.

        Returns:
            Address of the commit.
        """
        card = {"repository": repo_id, **(model_card_kwargs or {})}
        return super().push_to_hub(repo_id, model_card_kwargs=card, **options)

    def generate_model_card(self, **card: Any) -> ModelCard:
        """Model card of the repository.

        Args:
            card: Further arguments of `finescale.zoo.model_card`.
        """
        return ModelCard(zoo.model_card(**self._facts(), source=self.source, licence=self.licence, **card))

    def _facts(self) -> dict[str, Any]:
        """What the network is, as plain values."""
        family, variant = identity_of(self.network)
        return {"family": family, "variant": variant, "scale": self.network.scale}

    def _save_pretrained(self, save_directory: Path) -> None:
        weights.save(self.network, save_directory / HUB_FILE, source=self.source, licence=self.licence)
        config = {**self._facts(), "settings": self.network.settings.model_dump(mode="json")}
        (save_directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def _from_pretrained(  # type: ignore[override]  # the mixin takes any further argument, we those that we know
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        device: str = "cpu",
        source: str | None = None,
        licence: str | None = None,
        proxies: None = None,  # noqa: ARG003  this and the next are passed by the client before 1.0
        resume_download: None = None,  # noqa: ARG003
    ) -> Self:
        """Load from a folder or a repository, ours or the authors'; its weight file alone is read."""
        if Path(model_id).is_dir():
            path = Path(model_id) / HUB_FILE
        else:
            path = Path(
                hf_hub_download(
                    model_id,
                    HUB_FILE,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    token=token,
                )
            )
        loaded = weights.load(path, device=device)
        if not isinstance(loaded.network, Frame):
            raise WeightsError(f"{path}: a third-party network, which has no model card; finescale.load reads it")
        return cls(
            loaded.network,
            source=source or loaded.header.get("source", model_id),
            licence=licence or loaded.header.get("licence"),
        )
