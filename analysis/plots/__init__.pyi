"""Names that the package offers; each is imported on first use."""

from .curves import angles_over as angles_over
from .curves import plot_alignment as plot_alignment
from .curves import plot_by_layer as plot_by_layer
from .curves import plot_by_layer_and_step as plot_by_layer_and_step
from .curves import plot_training as plot_training
from .curves import shown_steps as shown_steps
from .lines import noted as noted
from .lines import plot_lines as plot_lines
from .lines import write_note as write_note
from .rdms import plot_rdm as plot_rdm
from .rdms import plot_rdm_grid as plot_rdm_grid
from .signals import plot_signals as plot_signals
from .similarity import plot_similarity as plot_similarity
from .similarity import plot_similarity_by_step as plot_similarity_by_step
from .similarity import plot_similarity_grid as plot_similarity_grid
