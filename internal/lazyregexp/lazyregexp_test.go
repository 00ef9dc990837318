package lazyregexp

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestMethodsAreThoseOfRegexp(t *testing.T) {
	r := New(`a(x*)b`)
	assert.Equal(t, `a(x*)b`, r.String())
	assert.True(t, r.MatchString("-axxb-"))
	assert.Equal(t, "axb", r.FindString("axb ab"))
	assert.Equal(t, []string{"axb", "x"}, r.FindStringSubmatch("axb"))
	assert.Equal(t, []string{"axb", "ab"}, r.FindAllString("axb ab", -1))
	assert.Equal(t, [][]string{{"ab", ""}}, r.FindAllStringSubmatch("ab axb", 1))
	assert.Equal(t, [][]int{{0, 3, 1, 2}}, r.FindAllStringSubmatchIndex("axb", -1))
	assert.Equal(t, "[x]", r.ReplaceAllString("axb", "[$1]"))
}

func TestATestFindsAPatternThatIsNone(t *testing.T) {
	assert.Panics(t, func() { New(`(`) })
}
