"""How much hardware a demand needs: a machine's measured costs, our own scheduler in simulated time, and the answer."""
