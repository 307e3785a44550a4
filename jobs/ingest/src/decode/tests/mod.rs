//! Behaviour of the decoder as a whole.
