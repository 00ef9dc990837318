package gorm

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/aadpool/aadpool/examples/ecosystem/internal/rotation"
	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestMain(m *testing.M) { azuretest.Main(m) }

func TestOpen(t *testing.T) {
	t.Parallel()
	azure := rotation.Start(t)
	db, err := Open(azure.Pool(t))
	require.NoError(t, err)
	sqlDB, err := db.DB()
	require.NoError(t, err)
	defer sqlDB.Close()
	require.NoError(t, db.AutoMigrate(&Order{}))
	azure.Through(t, func(ctx context.Context) error {
		order := Order{Customer: "contoso"}
		return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&order).Error; err != nil {
				return err
			}
			var found Order
			if err := tx.First(&found, order.ID).Error; err != nil {
				return err
			}
			assert.Equal(t, order, found)
			return nil
		})
	})
}
