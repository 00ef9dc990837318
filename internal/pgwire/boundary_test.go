package pgwire

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
)

func TestBoundary(t *testing.T) {
	row := encode(t, &pgproto3.DataRow{Values: [][]byte{[]byte("some value")}})
	idle := encode(t, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	inside := encode(t, &pgproto3.ReadyForQuery{TxStatus: 'T'})
	answer := KindsOf("Z")
	for _, test := range []struct {
		name    string
		stream  []byte
		between bool
		answers int
	}{
		{"nothing yet", nil, true, 0},
		{"a message", row, true, 0},
		{"an answer", slices.Concat(row, idle), true, 1},
		{"an answer in a transaction", slices.Concat(row, inside), true, 1},
		{"two answers", slices.Concat(row, idle, row, idle), true, 2},
		{"a message after an answer", slices.Concat(idle, row), true, 1},
		{"half a header", slices.Concat(idle, row[:3]), false, 1},
		{"half a body", row[:len(row)-1], false, 0},
		{"a header alone", row[:5], false, 0},
		{"a message without a body", encode(t, &pgproto3.NoData{}), true, 0},
		{"a length that cannot be", []byte{'D', 0, 0, 0, 1}, true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			for size := 1; size <= len(test.stream)+1; size++ { // however it is cut into pieces
				var b Boundary
				answers := 0
				for rest := test.stream; len(rest) > 0; {
					n, kind := b.Next(rest[:min(size, len(rest))], answer)
					if kind != 0 {
						assert.Equal(t, byte('Z'), kind)
						assert.Contains(t, "IT", string(rest[n-1]), "it ends here")
						answers++
					}
					rest = rest[n:]
				}
				assert.Equal(t, test.between, b.Between(), size)
				assert.Equal(t, test.answers, answers, size)
			}
		})
	}
}

func BenchmarkBoundary(b *testing.B) {
	row := encode(b, &pgproto3.DataRow{Values: [][]byte{make([]byte, 100)}})
	var stream []byte
	for len(stream) < 32<<10 {
		stream = append(stream, row...)
	}
	b.SetBytes(int64(len(stream)))
	var boundary Boundary
	answer := KindsOf("Z")
	for b.Loop() {
		boundary.Next(stream, answer)
	}
}
