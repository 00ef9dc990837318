package connections

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestNetwork(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:443":           "192.0.2.7",
		"[::ffff:192.0.2.7]:443":  "192.0.2.7",
		"[2001:db8:1:2:3::4]:443": "2001:db8:1:2::",
		"[fe80::1%eth0]:443":      "fe80::",
		"@":                       "invalid IP",
	} {
		assert.Equal(t, want, Network(Address(remote)).String(), remote)
	}
}
