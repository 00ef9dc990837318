package azuretest

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSinkFindsATokenWhereverItIsPrinted(t *testing.T) {
	token := "eyJhbGciOiJSUzI1NiJ9.eyJ1cG4iOiJhIn0.c2ln"
	for _, row := range []struct {
		name  string
		value any
	}{
		{"in an error", errors.New("refused " + token)},
		{"in a field", struct{ secret string }{token}},
		{"behind a pointer", &struct{ Secret *string }{&token}},
	} {
		t.Run(row.name, func(t *testing.T) {
			var s Sink
			s.Value(row.value)
			assert.NotEmpty(t, s.Token())
		})
	}
}
