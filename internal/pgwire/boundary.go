package pgwire

import "encoding/binary"

// A Boundary follows a stream of messages of one side of a session, each a type byte and a length, to tell where one ends.
// The zero value is at the start of a message.
type Boundary struct {
	header [5]byte
	have   int    // bytes of header that are known
	left   uint32 // bytes of the message's body that are to come
	ready  byte   // the status of the last ReadyForQuery, or 0 where another message came after it
	last   byte   // the type of the message at hand
}

// readyForQuery is the type of the message that ends an answer:
// https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-READYFORQUERY
const readyForQuery = 'Z'

// Between reports whether all that has been seen are whole messages.
func (b *Boundary) Between() bool { return b.have == 0 && b.left == 0 }

// Idle reports whether the last message was a ReadyForQuery outside a transaction.
func (b *Boundary) Idle() bool { return b.Between() && b.ready == 'I' }

// Next takes the next piece of the stream. It returns how many messages of type ReadyForQuery end in it.
func (b *Boundary) Next(piece []byte) (answers int) {
	for len(piece) > 0 {
		if b.left > 0 {
			n := min(uint64(b.left), uint64(len(piece)))
			if b.last == readyForQuery && n > 0 {
				b.ready = piece[n-1]
			}
			if b.left -= uint32(n); b.left == 0 && b.last == readyForQuery {
				answers++
			}
			piece = piece[n:]
			continue
		}
		n := copy(b.header[b.have:], piece)
		b.have += n
		piece = piece[n:]
		if b.have == len(b.header) {
			b.begin()
		}
	}
	return answers
}

// begin is at the end of a header. A length below 4, which includes itself, is the peer's error and has no body.
func (b *Boundary) begin() {
	b.have, b.last, b.ready = 0, b.header[0], 0
	b.left = max(binary.BigEndian.Uint32(b.header[1:]), 4) - 4
}
