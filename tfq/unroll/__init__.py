"""Loops of fixed length, fused recurrent ops and branches, written out as basic ops."""
