"""The mathematics: pure functions of the Array API standard, with nothing checked and nothing converted."""
