package proxy

import (
	"sync"

	"github.com/aadpool/aadpool/internal/pgwire"
)

// An exchange follows what the two sides of a session say, to tell whether anything that the client has asked for may
// still come about without the client knowing. The zero value is a session that has just begun.
//
// The server ends its answer to each Query, FunctionCall and Sync with a ReadyForQuery, in their order, so that the
// numbers of both are compared. Two things are more than that. An Execute can commit before the Sync that follows it.
// And a server that waits for the data of a COPY throws away a Sync, commits nothing, and waits for a CopyDone:
// https://www.postgresql.org/docs/current/protocol-flow.html
type exchange struct {
	mu sync.Mutex // guards what follows

	client, server pgwire.Boundary

	asked    uint64 // messages that a ReadyForQuery answers
	query    uint64 // asked, when the last Query was
	answered uint64

	executing     bool // after an Execute, or the CopyDone of one, before its Sync
	copying       bool // the server waits for data
	copiedEarly   bool // the client has not waited for that
	inTransaction bool // as the last ReadyForQuery says

	stopped bool // what the client says goes nowhere
	goodbye bool // the client has said that it ends the session
}

// The messages that change an exchange. Which is which:
// https://www.postgresql.org/docs/current/protocol-message-formats.html
var (
	questions = pgwire.KindsOf("QFSEcfX")
	answers   = pgwire.KindsOf("ZGE")
)

// ask takes the next piece of what the client says, and returns how much of it is for the server. When the exchange has
// been stopped, that is what is left up to the Sync of what the server executes, so that it can end.
func (e *exchange) ask(piece []byte) (pass int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for pass < len(piece) && (!e.stopped || e.executing) {
		n, kind := e.client.Next(piece[pass:], questions)
		pass += n
		switch kind {
		case 'Q', 'F': // Query, FunctionCall
			e.asked++
			e.query, e.executing = e.asked, false
		case 'S': // Sync
			if !e.copying {
				e.asked++
			}
			e.executing = false
		case 'E': // Execute
			e.executing = true
		case 'c', 'f': // CopyDone, CopyFail
			e.endCopy()
		case 'X': // Terminate
			e.goodbye = true
		}
	}
	return pass
}

// endCopy is when the client has sent the last of its data. The server throws it away where it has not asked for data.
func (e *exchange) endCopy() {
	if !e.copying {
		e.copiedEarly = !e.settled()
		return
	}
	e.copying = false
	e.executing = e.asked == e.answered // the Sync is yet to come; the COPY of a Query needs none
}

// answer takes the next piece of what the server says, before it goes to the client. It returns how many answers end in
// it.
func (e *exchange) answer(piece []byte) (ended int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(piece) > 0 {
		n, kind := e.server.Next(piece, answers)
		switch kind {
		case 'Z': // ReadyForQuery
			ended++
			e.answered++
			e.asked = max(e.asked, e.answered)
			e.copying, e.inTransaction = false, piece[n-1] != 'I'
			e.copiedEarly = e.copiedEarly && !e.settled()
		case 'G': // CopyInResponse
			e.beginCopy()
		case 'E': // ErrorResponse
			e.copying = false
		}
		piece = piece[n:]
	}
	return ended
}

// beginCopy is when the server waits for data: all that it was to do before has been answered. It throws away the Syncs
// that have come behind an Execute.
func (e *exchange) beginCopy() {
	if e.copiedEarly {
		return // and so it may have all of the data
	}
	e.copying, e.executing = true, false
	if e.query <= e.answered {
		e.asked = e.answered
	}
}

// settled reports whether nothing of what the client has asked for may come about any more without another word of the
// client's: a transaction that is open ends with the session.
func (e *exchange) settled() bool {
	return e.copying || (e.asked == e.answered && !e.executing)
}

// stop stops the exchange if that is due in this phase of the proxy: in its end in any case, before that as soon as the
// session is idle outside a transaction. It reports whether the session can end now: settled, and between two messages
// of the server's.
func (e *exchange) stop(in phase) (over bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch in {
	case running:
		return false
	case draining:
		if !e.settled() || e.copying || e.inTransaction || !e.server.Between() {
			return false
		}
	}
	e.stopped = true
	return e.settled() && e.server.Between()
}

// isBusy reports whether the server has something to do that could be cancelled.
func (e *exchange) isBusy() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.settled()
}

// saidGoodbye reports whether the client has ended the session in order.
func (e *exchange) saidGoodbye() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.goodbye
}

// isBetween reports whether the client has got whole messages.
func (e *exchange) isBetween() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.server.Between()
}
