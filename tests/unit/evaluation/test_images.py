import cv2
import numpy as np

from lapa_ray.evaluation.images import contact_sheet, write_png


def test_a_contact_sheet_sets_pictures_into_rows_with_white_between():
    red, blue = np.zeros((5, 3, 3), np.uint8), np.zeros((5, 3, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    sheet = contact_sheet([[red, blue], [blue]], gap=2)
    assert sheet.shape == (12, 8, 3)
    np.testing.assert_array_equal(sheet[:5, :3], red)
    np.testing.assert_array_equal(sheet[:5, 5:], blue)
    np.testing.assert_array_equal(sheet[7:, :3], blue)
    assert (sheet[5:7] == 255).all()
    assert (sheet[7:, 3:] == 255).all()


def test_a_png_holds_the_very_colours(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    write_png(tmp_path / "picture.png", picture)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "picture.png"))[..., ::-1], picture)
