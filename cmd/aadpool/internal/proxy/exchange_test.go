package proxy

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// stream are messages by their types; see messageOf.
func stream(kinds string) (s []byte) {
	for kind := range strings.FieldsSeq(kinds) {
		s = append(s, messageOf(kind)...)
	}
	return s
}

// However the streams are cut into pieces, the exchange knows what is under way.
func TestExchangeOfAnyPieces(t *testing.T) {
	question, reply := stream("P B E S d c S Q"), stream("1 2 G C ZT T D C ZI")
	for size := 1; size <= len(question); size++ {
		var e exchange
		feed := func(stream []byte, take func([]byte)) {
			for len(stream) > 0 {
				n := min(size, len(stream))
				take(stream[:n])
				stream = stream[n:]
			}
		}
		ask := func(piece []byte) { assert.Equal(t, len(piece), e.ask(piece)) }
		answered := 0
		answer := func(piece []byte) { answered += e.answer(piece) }
		feed(stream("P B E S"), ask)
		assert.False(t, e.settled(), size)
		feed(stream("1 2 G"), answer)
		assert.True(t, e.settled() && e.copying, size)
		feed(question[len(stream("P B E S")):], ask)
		assert.False(t, e.settled(), size)
		feed(reply[len(stream("1 2 G")):], answer)
		assert.True(t, e.settled(), size)
		assert.False(t, e.inTransaction, size)
		assert.Equal(t, 2, answered, size)
	}
}

// What a query and its answer cost: it is on the way of every message.
func BenchmarkExchange(b *testing.B) {
	question, reply := stream("B E S"), stream("2 D C ZI")
	var e exchange
	for b.Loop() {
		e.ask(question)
		e.answer(reply)
	}
}
