package leaktest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.uber.org/goleak"

	"github.com/aadpool/aadpool/internal/leaktest"
)

func TestAGoroutineThatEndsLateIsNoLeak(t *testing.T) {
	end := make(chan struct{})
	go func() { <-end }()
	assert.Error(t, goleak.Find(), "goleak has no patience with it")
	time.AfterFunc(time.Second, func() { close(end) })
	assert.NoError(t, leaktest.Find())
}
