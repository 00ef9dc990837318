package pgwire

import "encoding/binary"

// A Boundary follows a stream of messages of one side of a session, each a type byte and a length, to tell where one
// ends. The zero value is at the start of a message.
type Boundary struct {
	header [headerLength]byte
	have   int    // bytes of header that are known
	left   uint32 // bytes of the message's body that are to come
	last   byte   // the type of the message at hand, or of the last one
}

// readyForQuery is the type of the message that ends an answer:
// https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-READYFORQUERY
const readyForQuery = 'Z'

// headerLength is that of a message's type and length.
const headerLength = 5

// Between reports whether all that has been seen are whole messages.
func (b *Boundary) Between() bool { return b.have == 0 && b.left == 0 }

// Rest returns how much of piece, the next of the stream, belongs to the message at hand: nothing between two.
func (b *Boundary) Rest(piece []byte) (n int) {
	for message := *b; !message.Between() && n < len(piece); {
		step := 1 // of a header
		if message.left > 0 {
			step = int(min(uint64(message.left), uint64(len(piece)-n)))
		}
		message.Next(piece[n : n+step])
		n += step
	}
	return n
}

// Next takes the next piece of the stream. It returns how many messages of type ReadyForQuery end in it.
func (b *Boundary) Next(piece []byte) (answers int) {
	for len(piece) > 0 {
		switch {
		case b.left > 0:
			n := int(min(uint64(b.left), uint64(len(piece))))
			b.left -= uint32(n)
			if b.last == readyForQuery && b.left == 0 {
				answers++
			}
			piece = piece[n:]
		case b.have == 0 && len(piece) >= headerLength: // most often
			b.begin(piece)
			piece = piece[headerLength:]
		default:
			n := copy(b.header[b.have:], piece)
			b.have += n
			piece = piece[n:]
			if b.have == headerLength {
				b.begin(b.header[:])
			}
		}
	}
	return answers
}

// begin is at the end of a header. A length below 4, which includes itself, is the peer's error and has no body.
func (b *Boundary) begin(header []byte) {
	b.have, b.last = 0, header[0]
	b.left = max(binary.BigEndian.Uint32(header[1:headerLength]), 4) - 4
}
