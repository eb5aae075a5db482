#include "base/plant.h"

#include <gtest/gtest.h>

namespace sheaf {
namespace {

TEST(Plant, OnlyWhatIsNamedIsPlanted) {
  SetPlants("no-fence,no-flush-data");
  EXPECT_TRUE(Planted("no-fence"));
  EXPECT_TRUE(Planted("no-flush-data"));
  EXPECT_FALSE(Planted("no-flush"));
  EXPECT_FALSE(Planted(""));
  SetPlants("");
  EXPECT_FALSE(Planted("no-fence"));
}

TEST(Plant, EmptyNamesAreSkipped) {
  SetPlants(",,a,");
  EXPECT_TRUE(Planted("a"));
  EXPECT_FALSE(Planted(""));
  SetPlants("");
}

}  // namespace
}  // namespace sheaf
