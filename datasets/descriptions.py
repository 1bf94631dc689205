"""The DESCR texts of the datasets."""

__all__ = ["ADULT", "CALIFORNIA_HOUSING", "CLOTHING_REVIEWS", "LETTER", "MNIST"]

ADULT = """\
Adult, also known as Census Income
----------------------------------
48,842 people of the 1994 census of the United States; does a person earn more than 50,000 dollars
a year? 37,155 do not ("<=50K"), 11,687 do (">50K").

6 numeric and 8 categorical columns. "educational-num" is "education" as a number: the same
information twice. "fnlwgt" is the weight of the row in the census, not a property of the person.
The file marks a missing value with "?"; the loader returns nan. 3,620 rows lack at least one of
workclass (2,799), occupation (2,809) and native-country (857). 52 rows repeat an earlier row. The
first 16,281 rows are the original test set, the 32,561 others the original training set.

Origin: Becker, B. and Kohavi, R. (1996). Adult. UCI Machine Learning Repository.
https://doi.org/10.24432/C5XW20
Licence: CC BY 4.0.
"""

CALIFORNIA_HOUSING = """\
California housing
------------------
20,640 block groups of the 1990 census in California, 8 numeric columns each; predict the median
house value of the group in units of 100,000 dollars. The values are cut off at 5.00001: 965 groups
are above 5. The columns are the ones of sklearn.datasets.fetch_california_housing, which needs the
network.

Origin: Pace, R. K. and Barry, R. (1997). Sparse spatial autoregressions. Statistics and
Probability Letters 33, 291-297; StatLib.
Licence: none is stated.
"""

CLOTHING_REVIEWS = """\
Women's clothing reviews
------------------------
23,486 reviews of clothes, in English, of which 22,641 have a text; the loader drops the
845 others. Of the reviews with a text, 18,540 recommend the item and 4,101 do not; the ratings
1 to 5 occur 821, 1,549, 2,823, 4,908 and 12,540 times.

Origin: Women's E-Commerce Clothing Reviews, collected from an online shop.
Licence: CC0, public domain.
"""

LETTER = """\
Letter recognition
------------------
20,000 images of capital letters in 20 fonts, randomly distorted, each described by 16 integers
from 0 to 15 (moments and edge counts). 26 classes of 734 to 813 rows. By custom the first 16,000
rows are for training and the last 4,000 for testing.

1,332 rows repeat an earlier row, so a random split puts copies of training rows in the test set.

Origin: Slate, D. (1991). Letter Recognition. UCI Machine Learning Repository.
https://doi.org/10.24432/C5ZP40
Licence: CC BY 4.0.
"""

MNIST = """\
MNIST
-----
Handwritten digits, 28 x 28 pixels, 0 (background) to 255: 60,000 for training, 10,000 for testing.
All of the original is here, in the original order; only the file format is different.

Origin: LeCun, Y., Cortes, C. and Burges, C. J. C. The MNIST database of handwritten digits.
Licence: CC BY-SA 3.0.
"""
