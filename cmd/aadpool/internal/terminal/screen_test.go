package terminal

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWrap(t *testing.T) {
	s := Screen{Width: 20}
	assert.Equal(t, "one two three\n  four five six\n  averyveryverylongword\n  x",
		s.Wrap("one two three four five six averyveryverylongword x", 5, 2))
	assert.Equal(t, "one two", Screen{}.Wrap("one two", 100, 2))
}

func TestAFileIsNoTerminal(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer file.Close()
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	assert.False(t, Is(file))
	assert.False(t, Is(null))
	assert.False(t, Is(&strings.Builder{}))
}

func TestWhatIsWrittenGoesAboveTheStatusLine(t *testing.T) {
	var screen strings.Builder
	line := NewStatusLine(&screen)
	_, _ = line.Write([]byte("first\n"))
	line.Update("1 session")
	_, _ = line.Write([]byte("second\n"))
	line.End()
	line.End()
	assert.Equal(t, "first\n"+
		"\r\x1b[K\x1b[?7l1 session\x1b[?7h"+
		"\r\x1b[Ksecond\n\x1b[?7l1 session\x1b[?7h"+
		"\r\x1b[K", screen.String())
}
