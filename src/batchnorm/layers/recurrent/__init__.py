"""Batch norm inside recurrent layers: statistics of each time step, LSTM and GRU."""

from ._gru import BatchNormGRU as BatchNormGRU
from ._lstm import BatchNormLSTM as BatchNormLSTM
from ._norm import RecurrentBatchNorm as RecurrentBatchNorm
