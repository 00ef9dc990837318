package oauth

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAdmission(t *testing.T) {
	one, two, three := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	a := newAdmission(3, 2)
	for _, step := range []struct {
		name  string
		from  netip.Addr
		leave bool
		want  bool
	}{
		{"the first", one, false, true},
		{"as many as an address may have", one, false, true},
		{"more than that", one, false, false},
		{"another address", two, false, true},
		{"more than all may have", three, false, false},
		{"one leaves", one, true, false},
		{"and makes room for another address", three, false, true},
		{"again more than all may have", one, false, false},
		{"the only one of an address leaves", two, true, false},
		{"and makes room", one, false, true},
	} {
		if step.leave {
			a.leave(step.from)
			continue
		}
		assert.Equal(t, step.want, a.enter(step.from), step.name)
	}
	assert.EqualValues(t, 3, a.count())
	a.leave(one)
	a.leave(one)
	a.leave(three)
	assert.Empty(t, a.byAddress, "nothing is kept of addresses without requests")
	assert.Zero(t, a.inFlight)
}
