package pgwire

import "encoding/binary"

// A Boundary follows a stream of messages of one side of a session, each a type byte and a length, to tell where one
// ends. The zero value is at the start of a message.
type Boundary struct {
	header [headerLength]byte
	have   int    // bytes of header that are known
	left   uint32 // bytes of the message's body that are to come
	kind   byte   // the type of the message at hand, or of the last one
}

// headerLength is that of a message's type and length.
const headerLength = 5

// Kinds are types of messages.
type Kinds [256]bool

// KindsOf are the types of which there is a byte in types.
func KindsOf(types string) *Kinds {
	var k Kinds
	for i := range len(types) {
		k[types[i]] = true
	}
	return &k
}

// Between reports whether all that has been seen are whole messages.
func (b *Boundary) Between() bool { return b.have == 0 && b.left == 0 }

// Next takes the next piece of the stream up to the end of the first message of one of the kinds that are wanted, or
// all of it. It returns how much it has taken, and that message's type, or 0 where none ends in the piece.
func (b *Boundary) Next(piece []byte, wanted *Kinds) (taken int, kind byte) {
	for taken < len(piece) {
		rest := piece[taken:]
		switch {
		case b.left > 0:
			n := int(min(uint64(b.left), uint64(len(rest))))
			b.left -= uint32(n)
			taken += n
		case b.have == 0 && len(rest) >= headerLength: // most often
			b.begin(rest)
			taken += headerLength
		default:
			n := copy(b.header[b.have:], rest)
			b.have += n
			taken += n
			if b.have < headerLength {
				return taken, 0
			}
			b.begin(b.header[:])
		}
		if b.left == 0 && wanted[b.kind] {
			return taken, b.kind
		}
	}
	return taken, 0
}

// begin is at the end of a header. A length below 4, which includes itself, is the peer's error and has no body.
func (b *Boundary) begin(header []byte) {
	b.have, b.kind = 0, header[0]
	b.left = max(binary.BigEndian.Uint32(header[1:headerLength]), 4) - 4
}
