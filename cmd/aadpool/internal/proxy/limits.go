package proxy

import (
	"cmp"
	"time"
)

// limits are how long a proxy waits for others, where that is for no user to say. The zero value of one is the
// constant of its name.
type limits struct {
	readyWithin, lingering, settleTimeout time.Duration
}

const (
	// readyWithin is how long finding out for /readyz may take.
	readyWithin = 5 * time.Second

	// lingering is how long a client that has been told the last word gets to hang up by itself.
	lingering = 2 * time.Second

	// settleTimeout is how long the server may take to answer, when what it does has been cancelled.
	settleTimeout = 5 * time.Second
)

func (l limits) orDefaults() limits {
	return limits{
		readyWithin:   cmp.Or(l.readyWithin, readyWithin),
		lingering:     cmp.Or(l.lingering, lingering),
		settleTimeout: cmp.Or(l.settleTimeout, settleTimeout),
	}
}
