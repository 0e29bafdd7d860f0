"""How far the cluster goes: load counted on paper, queues simulated, and the database's constants measured."""
