"""From a catalogue and a survey to a stamp dataset."""
