"""The laboratory: experiments on real data that check what people claim for batch norm.

``data`` loads and checks datasets, ``models`` builds networks, ``training`` is one deterministic
run, ``store`` and ``parallel`` run many and keep what is done, ``summary`` and ``claims`` turn
numbers over seeds into verdicts, ``experiments`` say what to run, ``renderers`` show a result.
"""
