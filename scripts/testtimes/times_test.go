package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// Each event of this run comes a second of computing after the one before.
const oneRun = `
{"Action":"start","Package":"example.org/p"}
{"Action":"run","Package":"example.org/p","Test":"TestAlone"}
{"Action":"run","Package":"example.org/p","Test":"TestAlone/a_row"}
{"Action":"pass","Package":"example.org/p","Test":"TestAlone/a_row","Elapsed":7}
{"Action":"output","Package":"example.org/p","Test":"TestAlone","Output":"--- PASS: TestAlone (8.00s)\n"}
{"Action":"pass","Package":"example.org/p","Test":"TestAlone","Elapsed":8}
{"Action":"run","Package":"example.org/p","Test":"TestOne"}
{"Action":"pause","Package":"example.org/p","Test":"TestOne"}
{"Action":"run","Package":"example.org/p","Test":"TestOther"}
{"Action":"cont","Package":"example.org/p","Test":"TestOne"}
{"Action":"pass","Package":"example.org/p","Test":"TestOne","Elapsed":3}
{"Action":"pass","Package":"example.org/p","Test":"TestOther","Elapsed":4}
{"Action":"pass","Package":"example.org/p","Elapsed":20}
`

func TestTimesAreThoseOfEachTestAndPackage(t *testing.T) {
	var all times
	var now time.Duration
	err := all.read(strings.NewReader(oneRun), func() time.Duration { now += time.Second; return now })
	assert.NoError(t, err)
	var table strings.Builder
	all.print(&table, 2)
	assert.Equal(t, `  seconds  waiting  computing  package
     20.0     11.0        9.0  example.org/p
     20.0     11.0        9.0  all 1

  seconds  waiting  computing  test
      8.0      7.0        1.0  example.org/p TestAlone
      4.0      1.5        2.5  example.org/p TestOther
     15.0     10.0        5.0  all 3
`, table.String())
}
