//! dispatch and fan-out: from the bus to the sessions of one worker.
