package ecosystem_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	example "github.com/aadpool/aadpool/examples/ecosystem/gorm"
	"github.com/aadpool/aadpool/examples/ecosystem/internal/rotation"
)

func TestGORM(t *testing.T) {
	t.Parallel()
	azure := rotation.Start(t)
	db, err := example.Open(azure.Pool(t))
	require.NoError(t, err)
	sqlDB, err := db.DB()
	require.NoError(t, err)
	defer sqlDB.Close()
	require.NoError(t, db.AutoMigrate(&example.Order{}))
	azure.Through(t, func(ctx context.Context) error {
		order := example.Order{Customer: "contoso"}
		return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&order).Error; err != nil {
				return err
			}
			var found example.Order
			if err := tx.First(&found, order.ID).Error; err != nil {
				return err
			}
			assert.Equal(t, order, found)
			return nil
		})
	})
}
