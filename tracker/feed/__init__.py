"""The live feed: one sequencer gives changes their order, and each process hands them on to those
who watch. Delivery never depends on a notification: those only make it quick."""
