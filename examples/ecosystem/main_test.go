// Package ecosystem_test runs what is in the folders beside it, on a real PostgreSQL. It is one program, since each
// would start a server of its own.
package ecosystem_test

import (
	"testing"

	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestMain(m *testing.M) { azuretest.Main(m) }
