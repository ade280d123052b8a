"""Tests of scheduler.offboard."""
