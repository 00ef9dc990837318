package aadpoolsql

import (
	"testing"

	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestMain(m *testing.M) { azuretest.Main(m) }

// newDriver is the driver with hooks of its own, whose credentials use the stand-ins.
func newDriver(a azuretest.Azure) *sqlDriver { return &sqlDriver{&hooks{clientOptions: a.Options()}} }
